using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

/// <summary>One experiment from its file to its pictures, on this machine.</summary>
internal sealed class LocalRun(ClientContext context)
{
    private const int MostOthers = 100;

    public required string Id { get; init; }

    public required ExperimentSubmission Submission { get; init; }

    /// <summary>Number of silo processes.</summary>
    public required int Silos { get; init; }

    /// <summary>Threads that each silo's math may use.</summary>
    public required int Threads { get; init; }

    /// <summary>Whether equal bits need products that repeat.</summary>
    public bool Repeatable { get; init; }

    /// <summary>Whether the silos outlive the run.</summary>
    public bool Keep { get; init; }

    /// <summary>The words of the command line: the same go on with this run.</summary>
    public required IEnumerable<string> Arguments { get; init; }

    /// <summary>The output folder as the user wrote it.</summary>
    public required string ShortFolder { get; init; }

    public required bool Json { get; init; }

    /// <summary>Whether only the start is waited for.</summary>
    public bool Detach { get; init; }

    public async Task<int> ToEndAsync(CancellationToken cancellationToken)
    {
        var began = context.Time.GetTimestamp();
        var dataFolder = Path.GetFullPath(Path.Combine(context.CurrentDirectory, ShortFolder));
        using var folder = FolderLock.Take(dataFolder, ShortFolder);
        if (await HasSilosAsync(dataFolder)) return await JoinAsync(dataFolder, cancellationToken);
        context.Terminal.Note($"[bold]{Id}[/] on {Words.Count(Silos, "silo")}, output in {Markup.Escape(ShortFolder)}");
        IProgressReport? report = null;
        var silos = context.StartLocal(new LocalClusterOptions
        {
            Command = SiloCommand.Find(context.Variable, context.ProgramFolder),
            Silos = Silos,
            DataFolder = dataFolder,
            Threads = Threads,
            Repeatable = Repeatable,
            Keep = Keep,
            Finish = !Keep,
            Notice = text =>
            {
                if (report is { } current) current.Notice(text);
                else context.Terminal.Note(Markup.Escape(text));
            },
        });
        using var kill = context.Interruptions.OnSecond(silos.Kill);
        using var leave = context.Interruptions.OnHangUp(silos.Leave);
        try
        {
            await using (silos)
            {
                await silos.StartAsync(cancellationToken);
                await using var cluster = await context.Connect(ClusterTarget.Folder(dataFolder, ShortFolder), cancellationToken);
                var (receipt, before) = await SubmitAsync(cluster, cancellationToken);
                if (silos.HttpPort is { } port)
                    context.Terminal.Note(string.Create(CultureInfo.InvariantCulture, $"In a browser: http://127.0.0.1:{port}/experiments/{Id}"));
                if (Detach)
                {
                    silos.Leave();
                    Left(receipt);
                    return ExitCodes.Ok;
                }

                await WorkersCommand.WarnAsync(context, cluster, cancellationToken);
                ExperimentSnapshot ended;
                await using (report = WatchCommand.Report(context, json: false))
                    ended = await FollowAsync(cluster, silos, report, receipt.Existed ? before?.Sequence ?? 0 : 0, cancellationToken);
                report = null;
                Results(ended, context.Time.GetElapsedTime(began));
                Kept(silos);
                return ended.Summary.State == RunState.Succeeded ? ExitCodes.Ok : ExitCodes.Failed;
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            report = null;
            // Nobody is there to read it.
            if (context.Interruptions.HungUp) return ExitCodes.Interrupted;
            context.Terminal.Note(Keep
                ? $"The silos go on. Follow the experiment again with: adpm watch {Id} --data {Markup.Escape(ShortFolder)}"
                : $"Stopped; what was done is kept in {Markup.Escape(ShortFolder)}. Go on with the same command: {Markup.Escape(ShellWords.Command(Arguments))}");
            return ExitCodes.Interrupted;
        }
    }

    /// <summary>Silos that were left on the folder by a client whose terminal closed, or by --keep or --detach.</summary>
    private async Task<bool> HasSilosAsync(string dataFolder) =>
        (await new FileGatewayListProvider(new MembershipFile(dataFolder, AdjointDpmCluster.ClusterId, context.Time)).GetGateways()).Count > 0;

    /// <summary>Has the silos that are there do it: others beside them would be of the same names.</summary>
    private async Task<int> JoinAsync(string dataFolder, CancellationToken cancellationToken)
    {
        var (began, target) = (context.Time.GetTimestamp(), ClusterTarget.Folder(dataFolder, ShortFolder));
        context.Terminal.Note($"[bold]{Id}[/] on the silos that run on {Markup.Escape(ShortFolder)} already");
        await using var cluster = await context.Connect(target, cancellationToken);
        var (receipt, before) = await SubmitAsync(cluster, cancellationToken);
        if (Detach)
        {
            Left(receipt);
            return ExitCodes.Ok;
        }

        try
        {
            await WorkersCommand.WarnAsync(context, cluster, cancellationToken);
            ExperimentSnapshot ended;
            await using (var report = WatchCommand.Report(context, json: false))
                ended = await new Follower(cluster, report, context.Time).ToEndAsync(Id, receipt.Existed ? before?.Sequence ?? 0 : 0, cancellationToken);
            Results(ended, context.Time.GetElapsedTime(began));
            return ended.Summary.State == RunState.Succeeded ? ExitCodes.Ok : ExitCodes.Failed;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            if (!context.Interruptions.HungUp) context.Terminal.Note($"The silos go on. Follow the experiment again with: adpm watch {Id} --data {Markup.Escape(ShortFolder)}");
            return ExitCodes.Interrupted;
        }
        catch (ClusterUnreachableException e)
        {
            throw WatchCommand.Away(e, Id, target);
        }
    }

    private async Task<(SubmitReceipt Receipt, ExperimentSnapshot? Before)> SubmitAsync(IClusterConnection cluster, CancellationToken cancellationToken)
    {
        var receipt = await cluster.SubmitAsync(Id, Submission with { Command = ShellWords.Command(Arguments) }, cancellationToken);
        var before = await cluster.GetSnapshotAsync(receipt.ExperimentId, cancellationToken);
        Resumed(receipt, before);
        await OthersAsync(cluster, cancellationToken);
        return (receipt, before);
    }

    /// <summary>What a folder holds unfinished goes on with its silos, and has its part of the devices: said, or nobody would know why it takes so long.</summary>
    private async Task OthersAsync(IClusterConnection cluster, CancellationToken cancellationToken)
    {
        var others = (await cluster.ListAsync(0, MostOthers, cancellationToken)).Where(other => other.Id != Id && other.State is RunState.Queued or RunState.Running).Select(other => other.Id).ToList();
        if (others.Count > 0)
            context.Terminal.Note(Markup.Escape($"{Words.Count(others.Count, "other experiment")} in {ShortFolder} {(others.Count == 1 ? "goes" : "go")} on beside it: {string.Join(", ", others)}. To end one: adpm cancel {others[0]} --data {ShortFolder}"));
    }

    /// <summary>It goes on without us.</summary>
    private void Left(SubmitReceipt receipt)
    {
        if (Json) context.Terminal.WriteRaw(ClientJson.Text(new ReceiptDocument(receipt.ExperimentId, receipt.Existed, receipt.Trials, Submission.SpecSha256)));
        else context.Terminal.WriteRaw($"{receipt.ExperimentId}: {Words.Count(receipt.Trials, "trial")}");
        var where = Markup.Escape($"{Id} --data {ShortFolder}");
        context.Terminal.Note($"It goes on without this terminal, and its silos end with it. Next:\n  adpm watch {where}    follow it\n  adpm cancel {where}   end it after the step in hand\n  adpm report {where}   its page, once it has ended");
    }

    private async Task<ExperimentSnapshot> FollowAsync(IClusterConnection cluster, ILocalCluster silos, IProgressReport report, long after, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var following = new Follower(cluster, report, context.Time).ToEndAsync(Id, after, either.Token);
        var first = await Task.WhenAny(following, silos.Lost);
        if (first == following) return await following;
        await either.CancelAsync();
        await following.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        await silos.Lost;
        throw new InvalidOperationException("The silos were lost without a reason.");
    }

    private void Resumed(SubmitReceipt receipt, ExperimentSnapshot? before)
    {
        if (!receipt.Existed || before is null) return;
        var steps = before.Trials.Sum(trial => trial.Step);
        context.Terminal.Note(Words.Ended(before.Summary.State)
            ? $"This experiment has {Words.State(before.Summary.State)} before; nothing is computed again. Another --output starts afresh."
            : $"Going on after {Words.Count(before.Summary.TrialsEnded, "trial")} ended and {Words.Count(steps, "step")} committed.");
    }

    private void Results(ExperimentSnapshot ended, TimeSpan took)
    {
        ReportWriter.WriteBeside(context, ended);
        if (Json)
        {
            context.Terminal.WriteRaw(ClientJson.Text(ExperimentDocumentJson.Of(ended)));
            return;
        }

        ExperimentView.Show(context.Terminal, ended, context.Time);
        context.Terminal.Line();
        ArtifactList.Show(context, ended);
        context.Terminal.Line($"Wall time {Words.Span(took)}");
    }

    private void Kept(ILocalCluster silos)
    {
        if (!Keep) return;
        context.Terminal.Note($"The silos go on. Ask them with: adpm show {Id} --data {Markup.Escape(ShortFolder)}");
        context.Terminal.Note($"Stop them with: kill {string.Join(' ', silos.ProcessIds)}");
    }
}
