using System.Runtime.CompilerServices;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;

namespace AdjointDpm.Grains.Experiments;

/// <summary>Where an <see cref="ExperimentRun"/> lives in a silo.</summary>
[Reentrant]
[CoordinatorPlacement]
internal sealed class ExperimentGrain : Grain, IExperimentGrain, ITrialReportsGrain, IIncomingGrainCallFilter, IDisposable
{
    private readonly ExperimentRun _run;

    public ExperimentGrain(
        [PersistentState("experiment", StorageNames.State)] IPersistentState<ExperimentState> storage,
        IGrainFactory grains,
        SiloFolders folders,
        IDisk disk,
        IArtifacts artifacts,
        TimeProvider time,
        AdjointDpmInstruments instruments,
        ILogger<ExperimentGrain> logger) =>
        _run = new ExperimentRun(new GrainActivation(this, grains), storage, folders, disk, artifacts, time, instruments, logger);

    public override Task OnActivateAsync(CancellationToken cancellationToken) => _run.ActivateAsync();

    public void Dispose() => _run.Dispose();

    public Task Invoke(IIncomingGrainCallContext context)
    {
        _run.Demand(Caller.Current);
        return context.Invoke();
    }

    public Task<SubmitReceipt> SubmitAsync(ExperimentSubmission submission, CancellationToken cancellationToken = default) => _run.SubmitAsync(submission);

    public Task<ExperimentSnapshot?> GetSnapshotAsync(CancellationToken cancellationToken = default) => Task.FromResult(_run.Snapshot());

    public Task<IReadOnlyList<TrialSnapshot>> GetTrialsAsync(int skip, int take, CancellationToken cancellationToken = default) => Task.FromResult(_run.Trials(skip, take));

    public Task<TrialPage?> FindTrialsAsync(TrialQuery query, CancellationToken cancellationToken = default) => Task.FromResult(_run.Find(query));

    public Task<IReadOnlyList<TrialStep>> GetStepsAsync(int trial, CancellationToken cancellationToken = default) => _run.StepsAsync(trial);

    public Task<IReadOnlyList<ExperimentEvent>> GetEventsAsync(int? trial, int skip, int take, CancellationToken cancellationToken = default) => _run.EventsAsync(trial, skip, take);

    public Task<IReadOnlyList<ResultFile>> GetFilesAsync(int trial, CancellationToken cancellationToken = default) => _run.FilesAsync(trial, cancellationToken);

    public Task<ResultPart?> GetFileAsync(int trial, string sha256, long offset, CancellationToken cancellationToken = default) => _run.FileAsync(trial, sha256, offset, cancellationToken);

    public Task<ResultPart?> GetReportAsync(long offset, CancellationToken cancellationToken = default) => _run.ReportAsync(offset, cancellationToken);

    public Task<bool> CancelAsync(CancellationToken cancellationToken = default) => _run.CancelAsync();

    public Task<ControlReceipt> ControlAsync(ExperimentControl control, CancellationToken cancellationToken = default) => _run.ControlAsync(control);

    public Task<GradientProofReport?> GetGradientProofAsync(int trial, CancellationToken cancellationToken = default) => _run.GetGradientProofAsync(trial);

    public Task<TrialAudit?> AuditAsync(int trial, CancellationToken cancellationToken = default) => _run.AuditAsync(trial);

    // An iterator itself: a stream that is only passed on does not see that the client is gone.
    public async IAsyncEnumerable<ExperimentEvent> WatchAsync(long afterSequence, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var happened in _run.WatchAsync(afterSequence, cancellationToken))
            yield return happened;
    }

    public Task<int> ReportAsync(TrialReport report) => _run.ReportAsync(report);

    public Task<bool> PokeAsync() => _run.PokeAsync();
}
