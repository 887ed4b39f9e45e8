using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

/// <summary>One experiment from its file to its pictures, on this machine.</summary>
internal sealed class LocalRun(ClientContext context)
{
    public required string Id { get; init; }

    public required ExperimentSubmission Submission { get; init; }

    /// <summary>Number of silo processes.</summary>
    public required int Silos { get; init; }

    /// <summary>Threads that each silo's math may use.</summary>
    public required int Threads { get; init; }

    /// <summary>Whether the silos outlive the run.</summary>
    public bool Keep { get; init; }

    /// <summary>The words of the command line: the same go on with this run.</summary>
    public required IEnumerable<string> Arguments { get; init; }

    /// <summary>The output folder as the user wrote it.</summary>
    public required string ShortFolder { get; init; }

    public required bool Json { get; init; }

    public async Task<int> ToEndAsync(CancellationToken cancellationToken)
    {
        var began = context.Time.GetTimestamp();
        context.Terminal.Note($"[bold]{Id}[/] on {Words.Count(Silos, "silo")}, output in {Markup.Escape(ShortFolder)}");
        var dataFolder = Path.GetFullPath(Path.Combine(context.CurrentDirectory, ShortFolder));
        using var folder = FolderLock.Take(dataFolder, ShortFolder);
        IProgressReport? report = null;
        var silos = context.StartLocal(new LocalClusterOptions
        {
            Command = SiloCommand.Find(context.Variable, context.ProgramFolder),
            Silos = Silos,
            DataFolder = dataFolder,
            Threads = Threads,
            Keep = Keep,
            Notice = text =>
            {
                if (report is { } current) current.Notice(text);
                else context.Terminal.Note(Markup.Escape(text));
            },
        });
        using var kill = context.Interruptions.OnSecond(silos.Kill);
        try
        {
            await using (silos)
            {
                await silos.StartAsync(cancellationToken);
                await using var cluster = await context.Connect(ClusterTarget.Folder(dataFolder, ShortFolder), cancellationToken);
                var receipt = await cluster.SubmitAsync(Id, Submission, cancellationToken);
                var before = await cluster.GetSnapshotAsync(receipt.ExperimentId, cancellationToken);
                Resumed(receipt, before);
                if (silos.HttpPort is { } port)
                    context.Terminal.Note(string.Create(CultureInfo.InvariantCulture, $"In a browser: http://127.0.0.1:{port}/experiments/{Id}"));
                await WorkersCommand.WarnAsync(context, cluster, cancellationToken);
                ExperimentSnapshot ended;
                await using (report = context.Terminal.Live ? new LiveProgress(context.Terminal, context.Time) : new LineProgress(context.Terminal, context.Time))
                    ended = await FollowAsync(cluster, silos, report, receipt.Existed ? before?.Sequence ?? 0 : 0, cancellationToken);
                report = null;
                Results(ended, context.Time.GetElapsedTime(began), silos);
                return ended.Summary.State == RunState.Succeeded ? ExitCodes.Ok : ExitCodes.Failed;
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            report = null;
            context.Terminal.Note(Keep
                ? $"The silos go on. Follow the experiment again with: adpm watch {Id} --data {Markup.Escape(ShortFolder)}"
                : $"Stopped; what was done is kept in {Markup.Escape(ShortFolder)}. Go on with the same command: {Markup.Escape($"adpm {string.Join(' ', Arguments.Select(Quote))}")}");
            return ExitCodes.Interrupted;
        }
    }

    /// <summary>The run has ended well or not without it.</summary>
    private void Page(ExperimentSnapshot ended)
    {
        if (ArtifactList.IsAddress(ended.ArtifactFolder) || !File.Exists(Path.Combine(ended.ArtifactFolder, "report.json"))) return;
        try
        {
            ReportWriter.Write([ended.ArtifactFolder], null, context.Time);
        }
        catch (CommandFailure e)
        {
            context.Terminal.Note($"There is no page: {Markup.Escape(e.Message)}");
        }
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

    private void Results(ExperimentSnapshot ended, TimeSpan took, ILocalCluster silos)
    {
        Page(ended);
        if (Json)
        {
            context.Terminal.WriteRaw(ClientJson.Text(ExperimentDocumentJson.Of(ended)));
        }
        else
        {
            ExperimentView.Show(context.Terminal, ended, context.Time);
            context.Terminal.Line();
            ArtifactList.Show(context, ended);
            context.Terminal.Line($"Wall time {Words.Span(took)}");
        }

        if (!Keep) return;
        context.Terminal.Note($"The silos go on. Ask them with: adpm show {Id} --data {Markup.Escape(ShortFolder)}");
        context.Terminal.Note($"Stop them with: kill {string.Join(' ', silos.ProcessIds)}");
    }

    private static string Quote(string word) => word.All(c => char.IsLetterOrDigit(c) || "-_./=:,[]".Contains(c)) && word.Length > 0 ? word : $"'{word.Replace("'", "'\\''")}'";
}
