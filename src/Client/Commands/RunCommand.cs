using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.LocalCluster;

namespace AdjointDpm.Client.Commands;

internal static class RunCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("run", "Run an experiment on this machine: starts silos, follows the experiment, stops them. Goes on where an earlier run of the same file stopped.");
        var file = SharedOptions.SpecFile();
        var silos = new Option<int>("--silos") { Description = "Silo processes, each with one worker.", DefaultValueFactory = _ => 1, HelpName = "n" }.Within(1, 64);
        var output = new Option<string>("--output", "-o")
        {
            Description = "Folder of results, state and logs.", DefaultValueFactory = _ => ClusterTarget.DefaultFolder, HelpName = "folder",
        };
        var keep = new Option<bool>("--keep") { Description = "Leave the silos running at the end, for 'adpm show' and more." };
        var detach = new Option<bool>("--detach", "-d") { Description = "Return once it has begun. The silos go on without this terminal, and end with their experiments; 'adpm watch' picks it up." };
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        foreach (var option in new Option[] { silos, output, keep, detach, set, json }) command.Options.Add(option);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var sets = parsed.GetValue(set) ?? [];
            var (id, submission, spec) = await SpecFile.ReadResolvedAsync(parsed.GetRequiredValue(file), sets, context, pathsOfSilos: false, cancellationToken);
            return await new LocalRun(context)
            {
                Id = id,
                Submission = submission,
                Arguments = parsed.Tokens.Select(token => token.Value),
                ShortFolder = parsed.GetRequiredValue(output),
                Json = parsed.GetValue(json),
                Silos = parsed.GetValue(silos),
                Threads = spec.Resources.Threads,
                Repeatable = LocalClusterOptions.NeedsRepeatable(spec),
                Keep = parsed.GetValue(keep),
                Detach = parsed.GetValue(detach),
            }.ToEndAsync(cancellationToken);
        });
        return command;
    }
}
