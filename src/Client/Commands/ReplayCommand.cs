using System.CommandLine;
using System.Text.RegularExpressions;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static partial class ReplayCommand
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    public static Command Create(ClientContext context)
    {
        var command = new Command("replay", "Compute a committed step once more and compare every bit with the ledger. Starts a silo for it when none runs on the data folder.");
        var what = new Argument<string>("ID/TRIAL@STEP") { Description = "The step, such as digits-1a2b3c4d/0@12: an experiment, a trial from 0, a step from 1." };
        what.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: true));
        command.Arguments.Add(what);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (id, trial, step) = Parse(parsed.GetRequiredValue(what));
            var where = target.Target(parsed, context);
            await using var silos = await SilosAsync(where, id, trial, context, cancellationToken);
            await using var cluster = await context.Connect(where, cancellationToken);
            var experiment = await ExperimentLookup.FindAsync(cluster, id, cancellationToken);
            await WorkersCommand.WarnAsync(context, cluster, cancellationToken);
            var replay = await ToEndAsync(cluster, experiment.Summary.Id, trial, step, context, cancellationToken);
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new ReplayDocument(replay.State == ReplayState.Equal, replay)));
            else ReplayView.Show(context.Terminal, replay);
            return replay.State == ReplayState.Equal ? ExitCodes.Ok : ExitCodes.Failed;
        });
        return command;
    }

    private static (string Id, int Trial, int Step) Parse(string text) =>
        Step().Match(text) is { Success: true } match && int.TryParse(match.Groups["trial"].ValueSpan, out var trial) && int.TryParse(match.Groups["step"].ValueSpan, out var step)
            ? (match.Groups["id"].Value, trial, step)
            : throw new CommandFailure(ExitCodes.Invalid, $"'{text}' does not name a step.", "Write ID/TRIAL@STEP, such as digits-1a2b3c4d/0@12.");

    private static async Task<StepReplay> ToEndAsync(IClusterConnection cluster, string id, int trial, int step, ClientContext context, CancellationToken cancellationToken)
    {
        await using var bar = new WorkBar(context.Terminal, context.Time, "loading the model");
        while (true)
        {
            var replay = await cluster.ReplayAsync(id, trial, step, cancellationToken);
            if (replay.State != ReplayState.Running) return replay;
            if (replay.StepsDone > 0) bar.Report("steps recomputed", replay.StepsDone, step - replay.From);
            await Task.Delay(Pause, context.Time, cancellationToken);
        }
    }

    /// <summary>Starts a silo on a data folder that has none, with the threads that the run had: they decide its bits. Null when a cluster is there.</summary>
    private static async Task<LocalSilo?> SilosAsync(ClusterTarget where, string id, int trial, ClientContext context, CancellationToken cancellationToken)
    {
        if (where.DataFolder is not { } folder || await IsUpAsync(where, context, cancellationToken))
            return null;
        var runs = new RunFolder(folder);
        var full = ExperimentLookup.Among(runs.Experiments(), id, $"The data folder '{folder}' holds no trial of any experiment.");
        var plan = LedgerChain.Of(runs.Ledger(full, trial)).Records is [{ Plan: { } first }, ..] ? first
            : throw new CommandFailure(ExitCodes.Failed, $"Trial {trial} of '{full}' has recorded nothing.", $"See its trials with: adpm audit {full}{where.Options}");
        context.Terminal.Note($"Starting a silo on {Markup.Escape(context.Short(folder))}");
        return await LocalSilo.StartAsync(LocalClusterOptions.OneSilo(context, folder, ExperimentSpecJson.Deserialize(plan.SpecJson)), context, cancellationToken);
    }

    private static async Task<bool> IsUpAsync(ClusterTarget where, ClientContext context, CancellationToken cancellationToken)
    {
        try
        {
            await using var cluster = await context.Connect(where, cancellationToken);
            return true;
        }
        catch (ClusterUnreachableException)
        {
            return false;
        }
    }

    [GeneratedRegex(@"^(?<id>.+)/(?<trial>\d+)@(?<step>\d+)$")]
    private static partial Regex Step();

    /// <summary>A silo for the time of one command, and the lock that keeps others off its folder.</summary>
    private sealed class LocalSilo(ILocalCluster silos, FolderLock folder) : IAsyncDisposable
    {
        public static async Task<LocalSilo> StartAsync(LocalClusterOptions options, ClientContext context, CancellationToken cancellationToken)
        {
            var silo = new LocalSilo(context.StartLocal(options), FolderLock.Take(options.DataFolder, context.Short(options.DataFolder)));
            try
            {
                await silo.Silos.StartAsync(cancellationToken);
                return silo;
            }
            catch
            {
                await silo.DisposeAsync();
                throw;
            }
        }

        private ILocalCluster Silos => silos;

        public async ValueTask DisposeAsync()
        {
            await silos.DisposeAsync();
            folder.Dispose();
        }
    }
}
