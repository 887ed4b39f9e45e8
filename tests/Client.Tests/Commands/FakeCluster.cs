using System.Runtime.CompilerServices;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>A cluster that holds what a test puts into it.</summary>
internal sealed class FakeCluster : IClusterConnection
{
    public Dictionary<string, ExperimentSnapshot> Experiments { get; } = [];

    public List<ExperimentEvent> Events { get; } = [];

    /// <summary>Called before an event goes out; may change the state or throw.</summary>
    public Action<ExperimentEvent> BeforeEvent { get; set; } = _ => { };

    /// <summary>Makes a submitted experiment.</summary>
    public Func<string, ExperimentSubmission, ExperimentSnapshot>? OnSubmit { get; set; }

    public string LastSpec { get; private set; } = "";

    public string LastSha { get; private set; } = "";

    public bool LastPathsOfSilos { get; private set; }

    /// <summary>Whether state is asked in vain.</summary>
    public bool Gone { get; set; }

    public Task<SubmitReceipt> SubmitAsync(string id, ExperimentSubmission submission, CancellationToken cancellationToken)
    {
        (LastSpec, LastSha, LastPathsOfSilos) = (submission.SpecJson, submission.SpecSha256, submission.PathsOfSilos);
        var existed = Experiments.ContainsKey(id);
        if (!existed) Experiments[id] = OnSubmit!(id, submission);
        return Task.FromResult(new SubmitReceipt(id, existed, Experiments[id].Summary.Trials));
    }

    public Task<ExperimentSnapshot?> GetSnapshotAsync(string id, CancellationToken cancellationToken) =>
        Gone ? Task.FromException<ExperimentSnapshot?>(new ClusterUnreachableException("The cluster at x stopped to answer.")) : Task.FromResult(Experiments.GetValueOrDefault(id));

    public Task<IReadOnlyList<TrialSnapshot>> GetTrialsAsync(string id, int skip, int take, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<TrialSnapshot>>([.. Experiments[id].Trials.Skip(skip).Take(take)]);

    public Task<TrialPage?> FindTrialsAsync(string id, TrialQuery query, CancellationToken cancellationToken)
    {
        var (page, matched) = query.Of(Experiments[id].Trials);
        return Task.FromResult<TrialPage?>(new TrialPage(page, matched));
    }

    /// <summary>How many of the events had happened when somebody asks for them.</summary>
    public int Happened { get; set; } = int.MaxValue;

    public List<TrialStep> Steps { get; } = [];

    public Task<IReadOnlyList<TrialStep>> GetStepsAsync(string id, int trial, CancellationToken cancellationToken) => Task.FromResult<IReadOnlyList<TrialStep>>([.. Steps]);

    public Task<IReadOnlyList<ExperimentEvent>> GetEventsAsync(string id, int? trial, int skip, int take, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<ExperimentEvent>>([.. Events.Take(Happened).Reverse().Where(happened => trial is null || happened.Trial == trial).Skip(skip).Take(take)]);

    public List<(string Id, ExperimentControl Control)> Controls { get; } = [];

    public Task<ControlReceipt> ControlAsync(string id, ExperimentControl control, CancellationToken cancellationToken)
    {
        Controls.Add((id, control));
        if (control.Trial > 9) throw new ArgumentException($"'{id}' has no trial {control.Trial}: its 10 trials are counted from 0.");
        var ended = Words.Ended(Experiments[id].Summary.State);
        return Task.FromResult(new ControlReceipt(!ended, ended ? $"It had ended already: {Words.State(Experiments[id].Summary.State)}." : "Its trials stop after the step in hand."));
    }

    public async IAsyncEnumerable<ExperimentEvent> WatchAsync(string id, long afterSequence, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        foreach (var happened in Events.Where(e => e.Sequence > afterSequence).ToList())
        {
            await Task.Yield();
            cancellationToken.ThrowIfCancellationRequested();
            BeforeEvent(happened);
            yield return happened;
        }

        if (Events.LastOrDefault()?.Kind != EventKind.ExperimentEnded) await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
    }

    /// <summary>Results on the silos' side: of a trial, or of the experiment without one.</summary>
    public Dictionary<(int? Trial, string Path), byte[]> Files { get; } = [];

    /// <summary>Bytes of a part: small, so that there are several.</summary>
    public int PartBytes { get; set; } = ResultPart.MostBytes;

    public Task<IReadOnlyList<ResultFile>> GetFilesAsync(string id, int trial, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<ResultFile>>([.. Files.Where(file => file.Key.Trial == trial).Select(file => new ResultFile(file.Key.Path, file.Value.Length, Sha(file.Value)))]);

    /// <summary>Whether what is handed out is another file than the one that is listed.</summary>
    public bool Changed { get; set; }

    public Task<ResultPart?> GetFileAsync(string id, int trial, string sha256, long offset, CancellationToken cancellationToken) =>
        Task.FromResult(Files.Where(file => file.Key.Trial == trial && Sha(file.Value) == sha256).Select(file => Part(Changed ? [.. file.Value.Select(b => (byte)(b ^ 1))] : file.Value, offset)).FirstOrDefault());

    public Task<ResultPart?> GetReportAsync(string id, long offset, CancellationToken cancellationToken) => Task.FromResult(Files.TryGetValue((null, "report.json"), out var report) ? Part(report, offset) : null);

    private ResultPart Part(byte[] file, long offset) => new(file[(int)offset..(int)Math.Min(file.Length, offset + PartBytes)], file.Length);

    private static string Sha(byte[] bytes) => Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(bytes));

    public GradientProofReport? Proof { get; set; }

    public Task<GradientProofReport?> GetGradientProofAsync(string id, int trial, CancellationToken cancellationToken) => Task.FromResult(Proof);

    public List<TrialAudit> Audits { get; } = [];

    public Task<TrialAudit?> AuditAsync(string id, int trial, CancellationToken cancellationToken) => Task.FromResult(Audits.SingleOrDefault(audit => audit.Run == $"{id}/{trial}"));

    /// <summary>Answers to a replay, in order; the last one stays.</summary>
    public Queue<StepReplay> Replays { get; } = [];

    public Task<StepReplay> ReplayAsync(string id, int trial, int step, CancellationToken cancellationToken) =>
        Task.FromResult(Replays.Dequeue() with { Run = $"{id}/{trial}", Step = step });

    public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<ExperimentSummary>>([.. Experiments.Values.Select(e => e.Summary).Skip(skip).Take(take)]);

    public List<WorkerDescription> Workers { get; } = [];

    public List<SiloMessage> Logs { get; } = [];

    public Task<IReadOnlyList<SiloMessage>> GetLogsAsync(IReadOnlyDictionary<string, long> after, int most, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<SiloMessage>>([.. Logs.Where(message => message.Number > after.GetValueOrDefault(message.Silo)).GroupBy(message => message.Silo).SelectMany(silo => silo.TakeLast(most))]);

    /// <summary>Called before the workers are listed; may change them.</summary>
    public Action BeforeWorkers { get; set; } = () => { };

    public Task<IReadOnlyList<WorkerDescription>> ListWorkersAsync(CancellationToken cancellationToken)
    {
        BeforeWorkers();
        return Task.FromResult<IReadOnlyList<WorkerDescription>>([.. Workers]);
    }

    public Task<IReadOnlyList<string>> CordonAsync(IReadOnlyList<string> workers, bool cordoned, CancellationToken cancellationToken)
    {
        var unknown = workers.Except(Workers.Select(worker => worker.Name)).ToList();
        for (var i = 0; i < Workers.Count && unknown.Count == 0; i++)
            if (workers.Contains(Workers[i].Name))
                Workers[i] = Samples.Worker(Workers[i] with { Cordoned = cordoned });
        return Task.FromResult<IReadOnlyList<string>>(unknown);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

/// <summary>Silos that are only said to run.</summary>
internal sealed class FakeSilos(LocalClusterOptions options) : ILocalCluster
{
    public LocalClusterOptions Options { get; } = options;

    public bool Started { get; private set; }

    public bool Stopped { get; private set; }

    public bool Killed { get; private set; }

    public TaskCompletionSource LostSource { get; } = new();

    public IReadOnlyList<int> ProcessIds => [101, 102];

    public int? HttpPort => 30080;

    public Task Lost => LostSource.Task;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        Started = true;
        return Task.CompletedTask;
    }

    public Func<Task> BeforeStop { get; set; } = () => Task.CompletedTask;

    public void Kill() => Killed = true;

    public bool Left { get; private set; }

    public void Leave() => Left = true;

    public async ValueTask DisposeAsync()
    {
        await BeforeStop();
        Stopped = true;
    }
}
