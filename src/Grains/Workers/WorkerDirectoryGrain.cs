using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Security;
using Orleans.Concurrency;

namespace AdjointDpm.Grains.Workers;

/// <summary>Answers from the view of whichever silo is asked: no state, no single place. Which workers are cordoned, <see cref="ICordonGrain"/> keeps.</summary>
[StatelessWorker]
internal sealed class WorkerDirectoryGrain(WorkerInventory inventory, ISiloStatusOracle oracle, IGrainFactory grains, TimeProvider time) : Grain, IWorkerDirectoryGrain
{
    /// <summary>How long a silo may take to answer; far below the response timeout of the one who asks here.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    public Task<IReadOnlyList<WorkerSnapshot>> ListAsync(CancellationToken cancellationToken = default) =>
        Task.FromResult<IReadOnlyList<WorkerSnapshot>>([.. inventory.All().Order(StringComparer.Ordinal)
            .Select(worker => new WorkerSnapshot(WorkerInventory.SiloOf(worker), WorkerInventory.DeviceOf(worker)))]);

    public async Task<IReadOnlyList<WorkerDescription>> DescribeAsync(CancellationToken cancellationToken = default)
    {
        var cordoned = (await grains.GetGrain<ICordonGrain>(ICordonGrain.Key).GetAsync()).Workers.ToHashSet(StringComparer.Ordinal);
        var members = inventory.All();
        var present = members.Select(worker => DescribeAsync(worker, cordoned.Contains(worker), cancellationToken));
        var absent = cordoned.Except(members).Select(worker => Task.FromResult(Describe(worker, WorkerState.Absent, cordoned: true)));
        var workers = (await Task.WhenAll(present.Concat(absent))).OrderBy(worker => worker.Name, StringComparer.Ordinal).ToList();
        return Caller.Current is { SeesAll: false } ? await OwnAsync(workers, cancellationToken) : workers;
    }

    /// <summary>Machines are everybody's, what they compute is its project's: that they are busy is all that others see.</summary>
    private async Task<IReadOnlyList<WorkerDescription>> OwnAsync(List<WorkerDescription> workers, CancellationToken cancellationToken)
    {
        var runs = workers.SelectMany(worker => worker.Work).Select(work => ExperimentOf(work.Run)).OfType<string>().Distinct().ToList();
        var own = (await Task.WhenAll(runs.Select(async run => (Run: run, Is: await IsOwnAsync(run, cancellationToken))))).Where(run => run.Is).Select(run => run.Run).ToHashSet();
        return [.. workers.Select(worker => worker with
        {
            Work = [.. worker.Work.Select(work => ExperimentOf(work.Run) is { } run && own.Contains(run) ? work : work with { Run = WorkInHand.Foreign, Kind = "", Step = 0, Shard = 0 })],
            // Whose it was is not known any more; the trial's own page has it.
            LastFailure = null,
            LastFailureAt = null,
        })];
    }

    private async Task<bool> IsOwnAsync(string experiment, CancellationToken cancellationToken)
    {
        try
        {
            // On behalf of the caller: the experiment knows whose it is.
            _ = await grains.GetGrain<IExperimentGrain>(experiment).GetTrialsAsync(0, 0, cancellationToken).WaitAsync(Patience, time, cancellationToken);
            return true;
        }
#pragma warning disable CA1031 // Whatever keeps it from answering, it is not shown.
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
#pragma warning restore CA1031
        {
            return false;
        }
    }

    private static string? ExperimentOf(string run) => run.LastIndexOf('/') is > 0 and var slash ? run[..slash] : null;

    public async Task<IReadOnlyList<string>> CordonAsync(IReadOnlyList<string> workers, bool cordoned, CancellationToken cancellationToken = default)
    {
        var keeper = grains.GetGrain<ICordonGrain>(ICordonGrain.Key);
        var members = inventory.All();
        var unknown = workers.Except(members).ToList();
        // A cordoned worker may be named while its silo is away, above all to be taken off the list.
        if (unknown.Count > 0)
            unknown = [.. unknown.Except((await keeper.GetAsync()).Workers)];
        if (unknown.Count > 0)
            return unknown;
        var now = await keeper.ChangeAsync([.. workers], cordoned);
        await Task.WhenAll(members.Select(WorkerInventory.SiloOf).Distinct().Select(silo => TellAsync(silo, now, cancellationToken)));
        return [];
    }

    public async Task<IReadOnlyList<SiloMessage>> GetLogsAsync(IReadOnlyDictionary<string, long> after, int most, CancellationToken cancellationToken = default)
    {
        var silos = oracle.GetApproximateSiloStatuses(onlyActive: true).Keys.Select(silo => oracle.TryGetSiloName(silo, out var name) ? name : null).OfType<string>().Distinct().Order(StringComparer.Ordinal);
        return [.. (await Task.WhenAll(silos.Select(silo => ReadAsync(silo, after.GetValueOrDefault(silo), most, cancellationToken)))).SelectMany(messages => messages)];
    }

    private async Task<IReadOnlyList<SiloMessage>> ReadAsync(string silo, long after, int most, CancellationToken cancellationToken)
    {
        try
        {
            return await grains.GetGrain<ISiloLogGrain>(ISiloLogGrain.KeyOf(silo)).ReadAsync(after, most).WaitAsync(Patience, time, cancellationToken);
        }
#pragma warning disable CA1031 // Whatever keeps one silo from answering, the others are heard.
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
#pragma warning restore CA1031
        {
            return [];
        }
    }

    private async Task TellAsync(string silo, CordonedWorkers cordoned, CancellationToken cancellationToken)
    {
        try
        {
            await grains.GetGrain<ISiloWorkersGrain>(ISiloWorkersGrain.KeyOf(silo)).LearnAsync(cordoned).WaitAsync(Patience, time, cancellationToken);
        }
#pragma warning disable CA1031 // The change is stored; a silo that could not be told reads it itself.
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
#pragma warning restore CA1031
        {
        }
    }

    private async Task<WorkerDescription> DescribeAsync(string worker, bool cordoned, CancellationToken cancellationToken)
    {
        try
        {
            var report = await grains.GetGrain<IShardWorkerGrain>(worker).ReportAsync().WaitAsync(Patience, time, cancellationToken);
            var state = (cordoned, report.Work.Count > 0) switch
            {
                (true, true) => WorkerState.Draining,
                (true, false) => WorkerState.Cordoned,
                (false, true) => WorkerState.Busy,
                (false, false) => WorkerState.Ready,
            };
            return Describe(worker, state, cordoned) with { Work = report.Work, ShardsDone = report.Done, LastFailure = report.LastFailure, LastFailureAt = report.LastFailureAt };
        }
#pragma warning disable CA1031 // Whatever keeps one silo from answering, the others are described.
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
#pragma warning restore CA1031
        {
            return Describe(worker, WorkerState.Silent, cordoned);
        }
    }

    private WorkerDescription Describe(string worker, WorkerState state, bool cordoned) =>
        new() { Name = worker, Silo = WorkerInventory.SiloOf(worker), Device = WorkerInventory.DeviceOf(worker), State = state, Cordoned = cordoned, Arithmetic = inventory.ArithmeticOf(worker) };
}
