using System.Diagnostics;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials.Ranges;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

/// <summary>One round of work: what to lease, to whom, and what to do with what comes back.</summary>
internal sealed record WorkRound
{
    public required StepLedger Ledger { get; init; }

    public required DeviceKind Device { get; init; }

    /// <summary>Trials that run side by side start with different workers.</summary>
    public required int Rotation { get; init; }

    /// <summary>How many workers may compute at once.</summary>
    public SlotsSpec Slots { get; init; } = new();

    public required TimeSpan Lease { get; init; }

    /// <summary>A shard that was lost this often is given up.</summary>
    public required int MaxAttempts { get; init; }

    /// <summary>What workers have begun and not ended.</summary>
    public required AttemptMarks Marks { get; init; }

    public required Func<ShardToken, WorkAssignment> Assign { get; init; }

    /// <summary>Brings a result's blob to where it is wanted; it may answer without bytes. Default: here.</summary>
    public Func<WorkResult, CancellationToken, Task<byte[]?>>? Collect { get; init; }

    /// <summary>Looks, after an attempt was lost, whether that was the worker's doing; throws what must end the round.</summary>
    public Func<Task>? Check { get; init; }

    /// <summary>Takes the first valid result of a shard, with its bytes.</summary>
    public required Action<int, WorkResult, byte[]?> Accept { get; init; }

    /// <summary>Told of every attempt after a shard's first.</summary>
    public required Action<ShardToken, string> Reissued { get; init; }

    /// <summary>Lost attempts by shard: epoch and number of the attempt, its worker and why. A worker that took a slow one over has lost nothing, nor has what only waited at one that is gone.</summary>
    internal Dictionary<int, SortedDictionary<(long Epoch, int Attempt), string>> Losses { get; } = [];
}

/// <summary>Leases the shards of a round to workers until every one has contributed: lease, bounded waits that renew it, collect.</summary>
/// <remarks>Runs on its grain's scheduler, so nothing here needs a lock. A worker that died costs its shards' leases and nothing else.</remarks>
internal sealed partial class ShardDispatch(IGrainFactory grains, IWorkerInventory inventory, TensorTransfer transfer, TimeProvider time, AdjointDpmInstruments instruments, ILogger logger)
{
    /// <summary>Shards that a worker holds at once: one that it computes, one that waits for it, so that devices do not idle between them.</summary>
    private const int LanesPerWorker = 2;

    private readonly Dictionary<string, Rest> _resting = [];

    /// <exception cref="WorkFailedException">A shard failed for good, or too often.</exception>
    public async Task RunAsync(WorkRound round, CancellationToken cancellationToken)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var lanes = new Dictionary<Task, Held>();
        var took = new List<TimeSpan>();
        var saidNoWorkers = false;
        using var load = instruments.RoundBegins();
        try
        {
            while (!round.Ledger.IsComplete)
            {
                cancellationToken.ThrowIfCancellationRequested();
                foreach (var expired in round.Ledger.Expire(time.GetUtcNow()))
                {
                    instruments.LeaseExpired();
                    LogExpired(logger, expired);
                    var held = lanes.Values.FirstOrDefault(lane => lane.Token == expired);
                    if (await MayHaveRunAsync(round, expired, held?.Ran ?? true))
                        Note(round, expired, held?.Worker, "its lease ran out");
                }
                var busy = lanes.Values.Select(lane => lane.Worker);
                var workers = ShardScheduling.Within(ShardScheduling.Order(inventory.List(round.Device), round.Rotation), round.Slots, busy, IsResting);
                if (workers.Count == 0 && !saidNoWorkers && inventory.Cordoned(round.Device) is { } cordoned)
                {
                    saidNoWorkers = true;
                    if (cordoned == 0 || inventory.List(round.Device).Count > 0)
                        LogNoWorkers(logger, round.Ledger.Trial, round.Slots.Min ?? 1, round.Device);
                    else
                        LogAllCordoned(logger, round.Ledger.Trial, round.Device, cordoned);
                }
                foreach (var worker in ShardScheduling.Free(workers, busy, LanesPerWorker, IsResting))
                {
                    var now = time.GetUtcNow();
                    if (!round.Ledger.TryLease(worker, now, now + round.Lease, out var token)
                        && !(ShardScheduling.Straggling(took, round.Ledger.Shards, round.Lease) is { } age && round.Ledger.TryTakeOver(worker, now - age, now, now + round.Lease, out token)))
                        continue;
                    await RequireAsync(round, token);
                    if (token.Attempt > 1)
                    {
                        instruments.ShardReissued();
                        round.Reissued(token, worker);
                    }
                    var lease = new Held(worker, token, now);
                    lanes.Add(LaneAsync(round, lease, ended.Token), lease);
                }
                load.Show(lanes.Count, round.Ledger.Open);
                await Task.WhenAny(lanes.Keys.Append(Task.Delay(ShardScheduling.Pause(round.Lease), time, ended.Token)));
                foreach (var (lane, held) in lanes.Where(lane => lane.Key.IsCompleted).ToArray())
                {
                    lanes.Remove(lane);
                    await lane;
                    if (round.Ledger.HashOf(held.Token.Shard) is not null)
                        took.Add(time.GetUtcNow() - held.Since);
                }
            }
        }
        finally
        {
            // Attempts that lost their race: nobody waits for them any more.
            Cancel(ended);
            foreach (var held in lanes.Values)
                Forget(held.Worker, held.Token);
        }
    }

    // Here and now, on the grain's scheduler: CancelAsync would run what follows on another thread.
    private static void Cancel(CancellationTokenSource source) => source.Cancel();

    /// <summary>One attempt, from the lease to its end. Throws only when the trial must end.</summary>
    private async Task LaneAsync(WorkRound round, Held held, CancellationToken cancellationToken)
    {
        var (key, token) = (held.Worker, held.Token);
        var collecting = false;
        using var span = Traces.Shard("shard", token)?.SetTag("adjointdpm.worker", key);
        try
        {
            var worker = grains.GetGrain<IShardWorkerGrain>(key);
            var status = await worker.StartAsync(round.Assign(token)).WaitAsync(cancellationToken);
            while (status.State is WorkState.Waiting or WorkState.Running)
            {
                held.Ran |= status.State == WorkState.Running;
                round.Ledger.Renew(token, key, time.GetUtcNow() + round.Lease);
                status = await worker.WaitAsync(token, ShardScheduling.Wait(round.Lease)).WaitAsync(cancellationToken);
            }
            if (status.State == WorkState.Done)
            {
                collecting = true;
                await CollectAsync(round, key, token, status.Result!, cancellationToken);
                _resting.Remove(key);
                return;
            }
            if (status.Failure is { Permanent: true } permanent)
            {
                instruments.ShardFailed(permanent: true);
                throw new WorkFailedException($"{Place(token)}: {permanent.Message}");
            }
            if (status.Failure is { OutOfMemory: true } full && token.Kind == WorkKind.Gradient)
            {
                instruments.ShardFailed(permanent: false);
                LogLost(logger, key, token, full.Message);
                throw new WorkerMemoryException($"{Place(token)} on {key}: {full.Message}");
            }
            await LostAsync(round, held, status.Failure?.Message ?? $"the worker says {status.State}", status switch
            {
                { State: WorkState.Failed } => !status.Failure!.HandedBack,
                // A process that has taken the name of the one before.
                { State: WorkState.Unknown } => null,
                _ => false,
            });
            if (status.State == WorkState.Failed)
                Forget(key, token);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // The round is over.
        }
        catch (Exception e) when (e is not (WorkFailedException or WorkerMemoryException or RangeLostException))
        {
            // Silo gone, call timed out, bytes not delivered: another attempt may do better.
            await LostAsync(round, held, e.Message, collecting ? true : null);
        }
    }

    private async Task CollectAsync(WorkRound round, string key, ShardToken token, WorkResult result, CancellationToken cancellationToken)
    {
        byte[]? bytes = null;
        if (result.Blob is { } blob && round.Ledger.Wants(result.Token))
        {
            bytes = round.Collect is { } collect ? await collect(result, cancellationToken) : await transfer.FetchAsync(blob, cancellationToken);
            if (bytes is not null && token.Kind == WorkKind.Gradient)
                instruments.GradientReceived(bytes.Length, bytes.Length);
        }
        var outcome = round.Ledger.Contribute(result.Token, result.ContentSha256, result.Weight, key);
        instruments.ShardContributed(outcome);
        if (outcome == ContributionOutcome.Accepted)
            round.Accept(result.Token.Shard, result, bytes);
        else if (outcome == ContributionOutcome.Mismatch)
            LogMismatch(logger, key, token);
        if (result.Token != token)
            Lost(round, new Held(key, token, default), $"it answered with the result of {result.Token}", counts: true);
        Forget(key, token);
    }

    /// <param name="round">Round.</param>
    /// <param name="held">The attempt.</param>
    /// <param name="reason">What is known.</param>
    /// <param name="counts">Whether the shard can be the cause; null when nothing was heard of it.</param>
    private async Task LostAsync(WorkRound round, Held held, string reason, bool? counts)
    {
        if (round.Check is { } check)
            await check();
        Lost(round, held, reason, counts ?? await MayHaveRunAsync(round, held.Token, held.Ran));
    }

    private void Lost(WorkRound round, Held held, string reason, bool counts)
    {
        var (worker, token) = (held.Worker, held.Token);
        Activity.Current.Fail(reason);
        instruments.ShardFailed(permanent: false);
        LogLost(logger, worker, token, reason);
        if (counts)
            Note(round, token, worker, reason);
        round.Ledger.Release(token);
        var failures = _resting.TryGetValue(worker, out var rest) ? rest.Failures + 1 : 1;
        _resting[worker] = new Rest(failures, time.GetUtcNow() + ShardScheduling.RestAfter(failures));
    }

    /// <summary>Of an attempt that nothing more is heard of: may the worker have died of it? Not when it only waited there behind others.</summary>
    private async Task<bool> MayHaveRunAsync(WorkRound round, ShardToken token, bool ran)
    {
        try
        {
            // One that kills at once was never heard to run: its worker's slate is what is left of it.
            await round.Marks.ReadAsync();
        }
        catch (IOException e)
        {
            LogMarksNotRead(logger, round.Ledger.Trial, e.Message);
            return true;
        }
        return ran || round.Marks.Has(token);
    }

    /// <summary>A shard that was lost too often, also under coordinators before this one, is not given to another worker.</summary>
    private static async Task RequireAsync(WorkRound round, ShardToken token)
    {
        foreach (var mark in await round.Marks.LeftAsync(token))
            LossesOf(round, token.Shard).TryAdd((mark.Token.Epoch, mark.Token.Attempt), $"{mark.Worker}: its silo ended in the middle of it");
        if (!round.Losses.TryGetValue(token.Shard, out var losses) || losses.Count < round.MaxAttempts)
            return;
        var epoch = token.Epoch;
        throw new WorkFailedException($"{Place(token)} was lost {losses.Count} times, and failure.maxShardAttempts allows no more. {string.Join(" ", losses.Select(lost => $"Attempt {lost.Key.Attempt}{(lost.Key.Epoch == epoch ? "" : $" of coordinator {lost.Key.Epoch}")}: {lost.Value}{(lost.Value.EndsWith('.') || lost.Value.EndsWith('…') ? "" : ".")}"))}");
    }

    private static SortedDictionary<(long Epoch, int Attempt), string> LossesOf(WorkRound round, int shard) =>
        round.Losses.TryGetValue(shard, out var losses) ? losses : round.Losses[shard] = [];

    /// <summary>Keeps what a shard was lost to: the evidence when it is given up. An attempt is lost once, whatever is heard of it later.</summary>
    private static void Note(WorkRound round, in ShardToken token, string? worker, string reason)
    {
        const int Longest = 300;
        LossesOf(round, token.Shard)[(token.Epoch, token.Attempt)] = $"{worker ?? "a worker that is gone"}: {(reason.Length > Longest ? reason[..Longest] + "…" : reason)}";
    }

    private static string Place(in ShardToken token) => token.Kind switch
    {
        WorkKind.Gradient => $"Step {token.Step + 1}, shard {token.Shard}",
        WorkKind.EvaluateBefore => $"Evaluation before training, part {token.Shard}",
        WorkKind.Guard => $"Evaluation after step {token.Step}, part {token.Shard}",
        WorkKind.EvaluateAfter => $"Evaluation after training, part {token.Shard}",
        WorkKind.Save => "Saving",
        WorkKind.Prove => "Proof of the gradient",
        WorkKind.Draw => $"Pictures after step {token.Step}",
        _ => "Loading the model",
    };

    private bool IsResting(string worker) => _resting.TryGetValue(worker, out var rest) && rest.Until > time.GetUtcNow();

    private void Forget(string worker, ShardToken token) => grains.GetGrain<IShardWorkerGrain>(worker).ForgetAsync(token).Ignore();

    /// <summary>An attempt under way.</summary>
    private sealed record Held(string Worker, ShardToken Token, DateTimeOffset Since)
    {
        /// <summary>Whether the worker was heard to compute it.</summary>
        public bool Ran { get; set; }
    }

    private readonly record struct Rest(int Failures, DateTimeOffset Until);
}
