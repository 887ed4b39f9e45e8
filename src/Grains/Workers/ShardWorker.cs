using System.Text.Json;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Workers;

/// <summary>The work of one device: takes assignments, computes them one after another on the device, keeps results until they are forgotten.</summary>
internal sealed partial class ShardWorker(
    IActivation activation,
    IDevices devices,
    TensorTransfer transfer,
    IArtifacts artifacts,
    IDisk disk,
    Background background,
    SiloFolders folders,
    string process,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    ILogger logger,
    CancellationToken stopping)
{
    /// <summary>Work that no coordinator has asked for during this time is dropped: its coordinator is gone, and the next one starts anew.</summary>
    private static readonly TimeSpan Orphaned = TimeSpan.FromSeconds(60);

    /// <summary>A trial that has asked for nothing during this time is gone from here. A former coordinator of it that asked so late could compute, but not commit.</summary>
    private static readonly TimeSpan Forgotten = TimeSpan.FromMinutes(10);

    private readonly Dictionary<ShardToken, Work> _works = [];
    private readonly Dictionary<string, (long Epoch, DateTimeOffset Asked)> _epochs = [];
    private readonly HeldParameters _parameters = new(transfer, time);
    private readonly ShardResiduals _residuals = new(devices, transfer, disk, background, time, logger);
    private readonly WorkerSlate _slate = new(disk, Path.Combine(folders.Begun, AttemptMark.SlateOf(activation.Key, process)), e => LogNotMarked(logger, activation.Key, e.Message), stopping);
    private IDisposable? _sweep;
    private volatile bool _computes;
    private long _progressed;
    private long _done;
    private (string Message, DateTimeOffset At)? _lastFailure;

    private string Key => activation.Key;

    public WorkStatus Start(WorkAssignment assignment)
    {
        var token = assignment.Token;
        if (IsFenced(token))
            return new WorkStatus(WorkState.Fenced);
        if (_works.TryGetValue(token, out var known))
            return StatusOf(known);
        if (stopping.IsCancellationRequested)
            return HandBack(token);
        DropWhere(other => other.Trial == token.Trial && other.Epoch < token.Epoch);
        _epochs[token.Trial] = (token.Epoch, time.GetUtcNow());
        // A background task alone does not keep an activation: an idle one is collected, work and all.
        _sweep ??= activation.Every(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10), Sweep);
        var work = _works[token] = new Work(assignment, CancellationTokenSource.CreateLinkedTokenSource(stopping), time.GetUtcNow());
        LogTaken(logger, Key, token);
        _ = RunAsync(work);
        return StatusOf(work);
    }

    public async Task<WorkStatus> WaitAsync(ShardToken token, TimeSpan upTo)
    {
        if (!_works.TryGetValue(token, out var work))
            return new WorkStatus(IsFenced(token) ? WorkState.Fenced : WorkState.Unknown);
        work.Asked = time.GetUtcNow();
        try
        {
            await work.Ended.Task.WaitAsync(upTo, time, stopping);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            // Not an error: the state below says how far it is.
        }
        return StatusOf(work);
    }

    /// <summary>What it holds, until the coordinator has collected it, and what it has done.</summary>
    public WorkerReport Report() => new()
    {
        Work = [.. _works.Where(pair => pair.Value.State is WorkState.Waiting or WorkState.Running or WorkState.Done).OrderBy(pair => pair.Value.Taken).Select(pair => Describe(pair.Key, pair.Value))],
        Done = _done,
        LastFailure = _lastFailure?.Message,
        LastFailureAt = _lastFailure?.At,
    };

    public void Forget(ShardToken token) => DropWhere(other => other == token);

    public void Stop()
    {
        _slate.Close();
        DropWhere(_ => true);
        _residuals.Sweep(TimeSpan.MinValue);
    }

    private async Task RunAsync(Work work)
    {
        var token = work.Assignment.Token;
        var started = time.GetTimestamp();
        // Within the call that brought the work, which has long returned when it ends.
        using var span = Traces.Shard("compute", token)?.SetTag("adjointdpm.worker", Key);
        instruments.WorkWaits(+1);
        try
        {
            var parameters = await _parameters.FetchAsync(token.Trial, before: false, work.Assignment.Parameters, stopping, work.Cancel.Token);
            var before = await _parameters.FetchAsync(token.Trial, before: true, work.Assignment.InitialParameters, stopping, work.Cancel.Token);
            var residual = await _residuals.BeforeAsync(work.Assignment, WorkerInventory.DeviceOf(Key), () => Begin(work), work.Cancel.Token);
            var (fetched, queued) = (time.GetElapsedTime(started), TimeSpan.Zero);
            var result = (await devices.RunAsync(
                WorkerInventory.DeviceOf(Key),
                ShardWork.TaskOf(work.Assignment),
                () =>
                {
                    queued = time.GetElapsedTime(started) - fetched;
                    return Begin(work);
                },
                engine => ShardWork.Do(engine, work.Assignment, parameters?.Version, before?.Version, residual, artifacts, work.Cancel.Token, Progressed), work.Cancel.Token)) with
            { Fetch = fetched, Queue = queued };
            if (result.Finish is { } finish)
                await devices.FinishAsync(finish, work.Cancel.Token);
            // Whatever ends otherwise keeps its memory from being used again.
            parameters?.Leave();
            before?.Leave();
            if (!_works.ContainsKey(token))
                return;
            var total = time.GetElapsedTime(started);
            work.Result = result.Publish(work.Assignment, Key, transfer, total);
            if (work.Result.Residual is { } left)
                _residuals.Hold(token, left);
            work.State = WorkState.Done;
            _done++;
            instruments.WorkFinished(token.Kind, work.Result.Statistics);
            LogDone(logger, Key, token, total.TotalSeconds);
        }
        catch (OperationCanceledException)
        {
            work.State = WorkState.Cancelled;
        }
#pragma warning disable CA1031 // Whatever the engine throws becomes an answer; exceptions of libraries do not cross the wire.
        catch (Exception e)
#pragma warning restore CA1031
        {
            work.Failure = WorkFailures.Of(e);
            work.State = WorkState.Failed;
            _lastFailure = (work.Failure.Message, time.GetUtcNow());
            instruments.WorkFailed(work.Failure);
            span.Fail(work.Failure.Message);
            LogFailed(logger, Key, token, work.Failure.Permanent ? "permanent" : "transient", work.Failure.Message, e);
        }
        finally
        {
            Waits(work);
            work.Ended.TrySetResult();
        }
    }

    /// <summary>The device begins with it, on the device's thread: from here to its end it may be what the process dies of.</summary>
    private Begun Begin(Work work)
    {
        work.State = WorkState.Running;
        Waits(work);
        instruments.WorkerBusy(Key, +1);
        Progressed();
        _computes = true;
        _slate.Write(work.Assignment.Token);
        return new Begun(() =>
        {
            _computes = false;
            _slate.Clear();
            instruments.WorkerBusy(Key, -1);
        });
    }

    /// <summary>The device gets on. Told from its thread.</summary>
    private void Progressed() => Volatile.Write(ref _progressed, time.GetTimestamp());

    private TimeSpan Still => _computes ? time.GetElapsedTime(Volatile.Read(ref _progressed)) : TimeSpan.Zero;

    /// <summary>It waits no longer. Told from the device's thread or from the grain's, whichever comes first.</summary>
    private void Waits(Work work)
    {
        if (Interlocked.Exchange(ref work.Waiting, 0) == 1)
            instruments.WorkWaits(-1);
    }

    private Task Sweep()
    {
        var now = time.GetUtcNow();
        foreach (var (token, work) in _works.ToArray())
        {
            if (now - work.Asked < Orphaned)
                continue;
            LogOrphan(logger, Key, token, work.Asked);
            DropWhere(other => other == token);
        }
        var trials = _works.Keys.Select(token => token.Trial).ToHashSet();
        _parameters.Sweep(Orphaned, trials.Contains);
        _residuals.Sweep(Orphaned);
        foreach (var trial in _epochs.Where(known => now - known.Value.Asked > Forgotten && !trials.Contains(known.Key)).Select(known => known.Key).ToArray())
            _epochs.Remove(trial);
        if (_works.Count == 0 && _residuals.IsEmpty && _parameters.Count == 0 && _epochs.Count == 0)
        {
            _sweep?.Dispose();
            _sweep = null;
        }
        return Task.CompletedTask;
    }

    private bool IsFenced(in ShardToken token) => _epochs.TryGetValue(token.Trial, out var known) && token.Epoch < known.Epoch;

    private void DropWhere(Func<ShardToken, bool> which)
    {
        foreach (var (token, work) in _works.Where(pair => which(pair.Key)).ToArray())
        {
            _works.Remove(token);
            work.Cancel.Cancel();
            if (work.Result?.Blob is { } blob)
                transfer.Withdraw(blob);
        }
    }

    /// <summary>A silo that stops hands back what it has not done, so that its coordinator gives it to another at once and not when the lease runs out.</summary>
    private WorkStatus StatusOf(Work work) => stopping.IsCancellationRequested && work.State is WorkState.Waiting or WorkState.Running or WorkState.Cancelled
        ? HandBack(work.Assignment.Token)
        : new(work.State, work.Result, work.Failure) { Still = Still };

    private WorkStatus HandBack(ShardToken token)
    {
        LogHandedBack(logger, Key, token);
        return new(WorkState.Failed, null, new WorkFailure(false, $"Silo {WorkerInventory.SiloOf(Key)} is stopping.", HandedBack: true));
    }

    private static WorkInHand Describe(in ShardToken token, Work work) => new(
        token.Trial,
        JsonNamingPolicy.CamelCase.ConvertName(token.Kind.ToString()),
        token.Kind == WorkKind.Gradient ? token.Step + 1 : token.Step,
        token.Shard,
        work.State switch { WorkState.Done => WorkProgress.Delivering, WorkState.Running => WorkProgress.Running, _ => WorkProgress.Waiting },
        work.Taken);

    private sealed class Begun(Action end) : IDisposable
    {
        public void Dispose() => end();
    }

    private sealed class Work(WorkAssignment assignment, CancellationTokenSource cancel, DateTimeOffset taken)
    {
        public WorkAssignment Assignment { get; } = assignment;

        public CancellationTokenSource Cancel { get; } = cancel;

        public DateTimeOffset Taken { get; } = taken;

        public DateTimeOffset Asked { get; set; } = taken;

        public TaskCompletionSource Ended { get; } = new();

        public volatile WorkState State = WorkState.Waiting;

        /// <summary>1 until its turn has come.</summary>
        public int Waiting = 1;

        public WorkResult? Result { get; set; }

        public WorkFailure? Failure { get; set; }
    }
}
