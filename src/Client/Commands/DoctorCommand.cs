using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Diagnosis;
using AdjointDpm.Client.Json;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class DoctorCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("doctor", "Check this machine: runtime, silo, libtorch, disk, and the cluster when one is named. Attach its output to bug reports.");
        var target = new TargetOptions(command);
        var output = new Option<string>("--output", "-o")
        {
            Description = "Folder that runs would write to.", DefaultValueFactory = _ => ClusterTarget.DefaultFolder, HelpName = "folder",
        };
        var json = SharedOptions.Json();
        command.Options.Add(output);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var checks = new List<DoctorCheck>();
            await foreach (var check in Run(parsed, cancellationToken))
            {
                checks.Add(check);
                if (!parsed.GetValue(json)) Show(check);
            }

            var healthy = checks.All(check => check.Ok);
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new DoctorDocument(healthy, checks)));
            return healthy ? ExitCodes.Ok : ExitCodes.Failed;
        });
        return command;

        async IAsyncEnumerable<DoctorCheck> Run(ParseResult parsed, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
        {
            yield return HostChecks.Runtime();
            var folder = Path.GetFullPath(Path.Combine(context.CurrentDirectory, parsed.GetRequiredValue(output)));
            yield return HostChecks.Writable("output folder", folder);
            yield return HostChecks.Disk(folder);
            yield return HostChecks.Cache(context.Variable);
            await foreach (var check in SiloCheck.RunAsync(context, cancellationToken)) yield return check;
            if (target.Given(parsed, context)) yield return await ClusterAsync(target.Target(parsed, context), cancellationToken);
        }

        async Task<DoctorCheck> ClusterAsync(ClusterTarget where, CancellationToken cancellationToken)
        {
            try
            {
                var started = context.Time.GetTimestamp();
                await using var cluster = await context.Connect(where, cancellationToken);
                var experiments = await cluster.ListAsync(0, 1, cancellationToken);
                var took = context.Time.GetElapsedTime(started).TotalMilliseconds;
                return new DoctorCheck("cluster", true, FormattableString.Invariant($"{where} answers after {took:0} ms; {(experiments.Count == 0 ? "no experiments yet" : $"newest experiment {experiments[0].Id}")}"));
            }
            catch (ClusterUnreachableException e)
            {
                return new DoctorCheck("cluster", false, e.Message, "Check the address, and that the gateway's port is open to this machine.");
            }
        }

        void Show(DoctorCheck check)
        {
            context.Terminal.Line($"{(check.Ok ? "[green]ok[/]  " : "[red]FAIL[/]")} {check.Name,-14} {Markup.Escape(check.Finding)}");
            if (check is { Ok: false, Advice: not null }) context.Terminal.Line($"     {"",-14} {Markup.Escape(check.Advice)}");
        }
    }
}
