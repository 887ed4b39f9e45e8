using System.Globalization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials.Ranges;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

/// <summary>Leases the shards of a round to workers until every one has contributed: lease, bounded waits that renew it, collect.</summary>
/// <remarks>Runs on its grain's scheduler, so nothing here needs a lock. A worker that died costs its shards' leases and nothing else.</remarks>
internal sealed partial class ShardDispatch(IGrainFactory grains, IWorkerInventory inventory, TensorTransfer transfer, TimeProvider time, AdjointDpmInstruments instruments, ILogger logger)
{
    /// <summary>Shards that a worker holds at once: one that it computes, one that waits for it, so that devices do not idle between them.</summary>
    private const int LanesPerWorker = 2;

    /// <summary>How often it is looked whether what the round needs is there, while its shards are computed; whoever holds it for the round knows by that that it is wanted.</summary>
    private static readonly TimeSpan CheckEvery = TimeSpan.FromMinutes(1);

    private readonly Dictionary<string, Rest> _resting = [];
    private readonly DateTimeOffset _began = time.GetUtcNow();
    private readonly long _ticks = time.GetTimestamp();

    /// <summary>A clock that no jump of the time of day moves: leases must neither all run out at once nor never.</summary>
    private DateTimeOffset Now => _began + time.GetElapsedTime(_ticks);

    /// <exception cref="WorkFailedException">A shard failed for good, or too often.</exception>
    public async Task RunAsync(WorkRound round, CancellationToken cancellationToken)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var lanes = new Dictionary<Task, Held>();
        var (saidNoWorkers, unlike) = (false, new Unlike());
        var (check, checkedAt) = (Task.CompletedTask, time.GetTimestamp());
        using var load = instruments.RoundBegins();
        try
        {
            while (!round.Ledger.IsComplete)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (check.IsCompleted)
                    await check;
                if (round.Check is { } look && check.IsCompleted && time.GetElapsedTime(checkedAt) >= CheckEvery)
                    (check, checkedAt) = (look(), time.GetTimestamp());
                if (round.Beside is { IsCompleted: true } beside)
                    await beside;
                foreach (var expired in round.Ledger.Expire(Now))
                    await ExpiredAsync(round, expired, lanes.Values.FirstOrDefault(lane => lane.Token == expired));
                var busy = lanes.Values.Select(lane => lane.Worker);
                var all = inventory.List(round.Device, round.Threads);
                var like = ShardScheduling.Like(all, inventory.ArithmeticOf, round.Arithmetic, round.Rotation);
                WaitForLike(round, unlike, all, like, lanes.Count > 0);
                var workers = ShardScheduling.Within(round.Arithmetic is null ? like : ShardScheduling.Order(like, round.Rotation), round.Slots, busy, IsResting);
                if (workers.Count == 0 && !saidNoWorkers && unlike.Since is null && inventory.Cordoned(round.Device) is { } cordoned)
                {
                    saidNoWorkers = true;
                    if (round.Threads > 1 && inventory.List(round.Device).Count > 0 && inventory.List(round.Device, round.Threads).Count == 0)
                        LogTooManyThreads(logger, round.Ledger.Trial, round.Threads, round.Device);
                    else if (cordoned == 0 || inventory.List(round.Device).Count > 0)
                        LogNoWorkers(logger, round.Ledger.Trial, round.Slots.Min ?? 1, round.Device);
                    else
                        LogAllCordoned(logger, round.Ledger.Trial, round.Device, cordoned);
                }
                foreach (var worker in ShardScheduling.Free(workers, busy, LanesPerWorker, IsResting))
                    if (TryLease(round, worker, null, out var lease))
                        await BeginAsync(lease);
                // What waits to be added waits for this one shard: for that a worker has a place even when all its results wait.
                if (round.Window is { IsBlocked: true } && round.Ledger.First is { } first)
                    foreach (var worker in workers.Where(worker => !IsResting(worker)))
                        if (TryLease(round, worker, first, out var lease))
                            await BeginAsync(lease);
                load.Show(lanes.Count, round.Ledger.Open);
                var wakes = lanes.Keys.Append(Task.Delay(ShardScheduling.Pause(round.Lease), time, ended.Token));
                await Task.WhenAny(round.Beside is { IsCompleted: false } other ? wakes.Append(other) : wakes);
                foreach (var (lane, held) in lanes.Where(lane => lane.Key.IsCompleted).ToArray())
                {
                    lanes.Remove(lane);
                    await lane;
                    if (round.Ledger.HashOf(held.Token.Shard) is not null)
                        round.Took.Add((held.Computed ?? Now) - held.Since);
                }
            }
        }
        finally
        {
            check.Ignore();
            // Attempts that lost their race: nobody waits for them any more.
            Cancel(ended);
            foreach (var held in lanes.Values)
                Forget(held.Worker, held.Token);
        }

        async Task BeginAsync(Held lease)
        {
            await RequireAsync(round, lease.Token);
            if (lease.Token.Attempt > 1)
            {
                instruments.ShardReissued();
                round.Reissued(lease.Token, lease.Worker);
            }
            lanes.Add(LaneAsync(round, lease, ended.Token), lease);
        }
    }

    /// <summary>Leases an open shard to a worker, or one that another takes too long for.</summary>
    /// <param name="round">Round.</param>
    /// <param name="worker">Worker.</param>
    /// <param name="only">The shard that it must be; null for any.</param>
    /// <param name="lease">The lease.</param>
    private bool TryLease(WorkRound round, string worker, int? only, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Held? lease)
    {
        var now = Now;
        var leased = round.Ledger.TryLease(worker, now, now + round.Lease, out var token, only)
            || (ShardScheduling.Straggling(round.Took, round.Ledger.Shards, round.Lease, round.StragglerFactor) is { } age && round.Ledger.TryTakeOver(worker, now - age, now, now + round.Lease, out token, only));
        lease = leased ? new Held(worker, token, now) : null;
        return leased;
    }

    /// <summary>Waits for workers that give the bits of those before them, and no longer than the round says.</summary>
    /// <exception cref="UnlikeWorkersException">There are only others.</exception>
    private void WaitForLike(WorkRound round, Unlike unlike, IReadOnlyList<string> all, IReadOnlyList<string> like, bool isBusy)
    {
        var least = round.Slots.Min ?? 1;
        if (isBusy || like.Count >= least || ShardScheduling.Largest(all, inventory.ArithmeticOf) is not { } other || all.Count(worker => inventory.ArithmeticOf(worker) == other) < least)
        {
            unlike.Since = null;
            return;
        }
        unlike.Since ??= Now;
        if (Now - unlike.Since >= round.UnlikeAfter)
            throw new UnlikeWorkersException(other, string.Create(CultureInfo.InvariantCulture, $"No worker was left that computes as the trial's others did ({round.Arithmetic}): for {round.UnlikeAfter.TotalSeconds:0.#} s there were only such of another kind ({other})."));
        if (unlike.Said)
            return;
        unlike.Said = true;
        LogUnlike(logger, round.Ledger.Trial, least, round.Arithmetic!, round.UnlikeAfter.TotalSeconds);
    }

    // Here and now, on the grain's scheduler: CancelAsync would run what follows on another thread.
    private static void Cancel(CancellationTokenSource source) => source.Cancel();

    /// <summary>One attempt, from the lease to its end. Throws only when the trial must end.</summary>
    private async Task LaneAsync(WorkRound round, Held held, CancellationToken cancellationToken)
    {
        var (key, token) = (held.Worker, held.Token);
        using var span = Traces.Shard("shard", token)?.SetTag("adjointdpm.worker", key);
        try
        {
            var worker = grains.GetGrain<IShardWorkerGrain>(key);
            var status = await worker.StartAsync(round.Assign(token)).WaitAsync(cancellationToken);
            while (status.State is WorkState.Waiting or WorkState.Running)
            {
                held.Ran |= status.State == WorkState.Running;
                if (!IsStuck(round, held, status))
                {
                    round.Ledger.Renew(token, key, Now + round.Lease);
                }
                else if (status.State == WorkState.Waiting)
                {
                    // Behind what stands still it would wait for ever.
                    Forget(key, token);
                    return;
                }
                status = await worker.WaitAsync(token, ShardScheduling.Wait(round.Lease)).WaitAsync(cancellationToken);
            }
            if (status.State == WorkState.Done)
            {
                held.Computed = Now;
                await CollectAsync(round, worker, held, status.Result!, cancellationToken);
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
                throw new WorkerMemoryException($"{Place(token)} on {key}: {full.Message}", "A worker ran out of memory.");
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
        catch (Exception e) when (e is not (WorkFailedException or WorkerMemoryException or RangeLostException or NoOwnersException))
        {
            // Silo gone, call timed out, bytes not delivered: another attempt may do better.
            await LostAsync(round, held, e.Message, held.Computed is not null ? true : null, ended: e is SiloUnavailableException);
        }
    }

    private async Task CollectAsync(WorkRound round, IShardWorkerGrain worker, Held held, WorkResult result, CancellationToken cancellationToken)
    {
        var (key, token) = (held.Worker, held.Token);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var place = result.Blob is not null && round.Ledger.Wants(result.Token) ? round.Window?.Ask(result.Token.Shard) : null;
        ContributionOutcome? outcome = null;
        try
        {
            if (place is not null)
                await KeptAsync(round, worker, held, place.Turn, stop.Token);
            byte[]? bytes = null;
            // Perhaps another attempt was faster while this one waited.
            if (result.Blob is { } blob && round.Ledger.Wants(result.Token))
            {
                var collecting = round.Collect is { } collect ? collect(result, stop.Token) : FetchAsync(blob, stop.Token);
                await KeptAsync(round, worker, held, collecting, stop.Token);
                bytes = await collecting;
                if (bytes is not null && token.Kind == WorkKind.Gradient)
                    instruments.GradientReceived(bytes.Length, bytes.Length);
            }
            outcome = round.Ledger.Contribute(result.Token, result.ContentSha256, result.Weight, key);
            instruments.ShardContributed(outcome.Value);
            if (outcome == ContributionOutcome.Accepted)
                round.Accept(result.Token.Shard, result, bytes);
            else if (outcome == ContributionOutcome.Mismatch)
                LogMismatch(logger, key, token);
        }
        finally
        {
            // A transfer that goes on although nobody waits for it.
            Cancel(stop);
            if (place is not null)
                round.Window!.Leave(place, outcome == ContributionOutcome.Accepted);
        }
        if (result.Token != token)
            Lost(round, new Held(key, token, default), $"it answered with the result of {result.Token}", counts: true);
        Forget(key, token);
    }

    private async Task<byte[]?> FetchAsync(TensorReference blob, CancellationToken cancellationToken) => await transfer.FetchAsync(blob, cancellationToken);

    /// <summary>Waits for what may take long, and meanwhile keeps the lease and the result: a worker drops what nobody asks for.</summary>
    private async Task KeptAsync(WorkRound round, IShardWorkerGrain worker, Held held, Task work, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                await work.WaitAsync(ShardScheduling.Wait(round.Lease), time, cancellationToken);
                return;
            }
            catch (TimeoutException) when (!work.IsCompleted)
            {
                // Asked in vain it is gone, and what it sends will not arrive.
                if (await worker.WaitAsync(held.Token, TimeSpan.Zero).WaitAsync(cancellationToken) is not { State: WorkState.Done })
                    throw new TensorTransferException("It let go of its result before that was collected.");
                round.Ledger.Renew(held.Token, held.Worker, Now + round.Lease);
            }
        }
    }

    private bool IsResting(string worker) => _resting.TryGetValue(worker, out var rest) && rest.Until > Now;

    private void Forget(string worker, ShardToken token) => grains.GetGrain<IShardWorkerGrain>(worker).ForgetAsync(token).Ignore();

    /// <summary>An attempt under way.</summary>
    private sealed record Held(string Worker, ShardToken Token, DateTimeOffset Since)
    {
        /// <summary>Whether the worker was heard to compute it.</summary>
        public bool Ran { get; set; }

        /// <summary>When it was heard that it is computed; from then on it is collected.</summary>
        public DateTimeOffset? Computed { get; set; }

        /// <summary>Whether its device stands still, although its worker answers.</summary>
        public bool IsStuck { get; set; }
    }

    /// <summary>Since when there are only workers that give other bits, and whether that was said.</summary>
    private sealed class Unlike
    {
        public DateTimeOffset? Since { get; set; }

        public bool Said { get; set; }
    }

    private readonly record struct Rest(int Failures, DateTimeOffset Until);
}
