using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Connection;

/// <summary>What the client asks of a cluster. Every member may throw <see cref="ClusterUnreachableException"/>.</summary>
internal interface IClusterConnection : IAsyncDisposable
{
    Task<SubmitReceipt> SubmitAsync(string id, ExperimentSubmission submission, CancellationToken cancellationToken);

    Task<ExperimentSnapshot?> GetSnapshotAsync(string id, CancellationToken cancellationToken);

    Task<IReadOnlyList<TrialSnapshot>> GetTrialsAsync(string id, int skip, int take, CancellationToken cancellationToken);

    /// <summary>Trials that meet conditions; null when there is no such experiment. Throws <see cref="ArgumentException"/> when the query is none.</summary>
    Task<TrialPage?> FindTrialsAsync(string id, TrialQuery query, CancellationToken cancellationToken);

    Task<IReadOnlyList<TrialStep>> GetStepsAsync(string id, int trial, CancellationToken cancellationToken);

    /// <summary>Events, the newest first.</summary>
    Task<IReadOnlyList<ExperimentEvent>> GetEventsAsync(string id, int? trial, int skip, int take, CancellationToken cancellationToken);

    /// <summary>Asks something of an experiment. Throws <see cref="ArgumentException"/> with what to do when that cannot be.</summary>
    Task<ControlReceipt> ControlAsync(string id, ExperimentControl control, CancellationToken cancellationToken);

    IAsyncEnumerable<ExperimentEvent> WatchAsync(string id, long afterSequence, CancellationToken cancellationToken);

    /// <summary>Files of a trial's results; empty while it is not complete.</summary>
    Task<IReadOnlyList<ResultFile>> GetFilesAsync(string id, int trial, CancellationToken cancellationToken);

    /// <summary>A part of one of them, by its SHA-256.</summary>
    Task<ResultPart?> GetFileAsync(string id, int trial, string sha256, long offset, CancellationToken cancellationToken);

    /// <summary>A part of the experiment's report; null before it is written.</summary>
    Task<ResultPart?> GetReportAsync(string id, long offset, CancellationToken cancellationToken);

    Task<GradientProofReport?> GetGradientProofAsync(string id, int trial, CancellationToken cancellationToken);

    Task<TrialAudit?> AuditAsync(string id, int trial, CancellationToken cancellationToken);

    /// <summary>Starts the replay of a step, or asks how far it is.</summary>
    Task<StepReplay> ReplayAsync(string id, int trial, int step, CancellationToken cancellationToken);

    Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken);

    Task<IReadOnlyList<WorkerDescription>> ListWorkersAsync(CancellationToken cancellationToken);

    /// <summary>Newest messages of the silos' logs, after the numbers that are known.</summary>
    Task<IReadOnlyList<SiloMessage>> GetLogsAsync(IReadOnlyDictionary<string, long> after, int most, CancellationToken cancellationToken);

    /// <summary>Cordons workers or lifts that. Answers with the names that no worker has; then nothing was changed.</summary>
    Task<IReadOnlyList<string>> CordonAsync(IReadOnlyList<string> workers, bool cordoned, CancellationToken cancellationToken);
}

/// <summary>No cluster answered, or it stopped to answer.</summary>
internal sealed class ClusterUnreachableException(string message, Exception? inner = null) : Exception(message, inner);
