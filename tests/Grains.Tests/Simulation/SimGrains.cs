using System.Reflection;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Trials.Ranges;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>References to grains as one silo holds them: every call is a message through the simulated network.</summary>
internal sealed class SimGrains(Silo from) : IGrainFactory
{
    public TGrainInterface GetGrain<TGrainInterface>(string primaryKey, string? grainClassNamePrefix = null) where TGrainInterface : IGrainWithStringKey =>
        (TGrainInterface)(object)(typeof(TGrainInterface).Name switch
        {
            nameof(IShardWorkerGrain) => new Worker(from, primaryKey),
            nameof(IParameterRangeGrain) => new Range(from, primaryKey),
            nameof(ITensorStoreGrain) => new EmptyStore(from),
            nameof(ITrialGrain) => new Trial(from, primaryKey),
            nameof(ITrialReportsGrain) => new Reports(from, primaryKey),
            nameof(IExperimentDirectoryGrain) => new Directory(from, primaryKey),
            _ => throw new NotSupportedException(typeof(TGrainInterface).Name),
        });

    /// <summary>The simulated tensors are small enough to travel inline, and what is asked for later is gone.</summary>
    private sealed class EmptyStore(Silo from) : ITensorStoreGrain
    {
        public Task<TensorChunk?> ReadAsync(string sha256, long offset, int length)
        {
            from.World.Tally.Add("residuals gone");
            return Task.FromResult<TensorChunk?>(null);
        }

        public Task<TensorGrant?> GrantAsync(string sha256, long offset, long length) => Task.FromResult<TensorGrant?>(null);
    }

    private sealed class Worker(Silo from, string key) : IShardWorkerGrain
    {
        private string Grain => "worker/" + key;

        public Task<WorkStatus> StartAsync(WorkAssignment assignment) =>
            from.World.CallAsync<ShardWorker, WorkStatus>(from, Grain, worker => Task.FromResult(worker.Start(assignment)), leases: assignment.Token.Kind == WorkKind.Gradient);

        public Task<WorkStatus> WaitAsync(ShardToken token, TimeSpan upTo) =>
            from.World.CallAsync<ShardWorker, WorkStatus>(from, Grain, worker => worker.WaitAsync(token, upTo));

        public Task<WorkerReport> ReportAsync() => throw new NotSupportedException("Nobody looks at a simulated worker.");

        public Task ForgetAsync(ShardToken token) => from.World.CallAsync<ShardWorker, bool>(from, Grain, worker =>
        {
            worker.Forget(token);
            return Task.FromResult(true);
        });
    }

    private sealed class Range(Silo from, string key) : IParameterRangeGrain
    {
        public Task<RangeVersion> LoadAsync(RangeLoad load) => Call(nameof(LoadAsync), range => range.LoadAsync(load), interleave: false);

        public Task AddAsync(RangeShard shard) => Call(nameof(AddAsync), async range =>
        {
            await range.AddAsync(shard);
            return true;
        });

        public Task<double> SumOfSquaresAsync(RangeRound round, double before) => Call(nameof(SumOfSquaresAsync), range => range.SumOfSquaresAsync(round, before), interleave: false);

        public Task<RangeVersion> StepAsync(RangeRound round, double norm) => Call(nameof(StepAsync), range => range.StepAsync(round, norm), interleave: false);

        public Task<TensorReference> OfferAsync(RangeClaim claim, string sha256) => Call(nameof(OfferAsync), range => range.OfferAsync(claim, sha256), interleave: false);

        public Task CheckAsync(RangeClaim claim) => Call(nameof(CheckAsync), range =>
        {
            range.Check(claim);
            return Task.FromResult(true);
        });

        public Task ReleaseAsync(RangeClaim claim) => Call(nameof(ReleaseAsync), range =>
        {
            range.Release(claim);
            return Task.FromResult(true);
        }, interleave: false);

        private Task<T> Call<T>(string method, Func<ParameterRange, Task<T>> call, bool interleave = true)
        {
            // As the runtime has it from the interface; what may be long sometimes is.
            var timeout = typeof(IParameterRangeGrain).GetMethod(method)!.GetCustomAttribute<ResponseTimeoutAttribute>()?.Timeout;
            return from.World.CallAsync<ParameterRange, T>(from, "range/" + key, async range =>
            {
                if (timeout is not null)
                    await from.World.OwnerMayBeSlowAsync();
                return await call(range);
            }, interleave, timeout: timeout);
        }
    }

    private sealed class Trial(Silo from, string key) : ITrialGrain
    {
        public Task StartAsync(TrialAssignment assignment) => from.World.CallAsync<TrialRun, bool>(from, "trial/" + key, async trial =>
        {
            await trial.StartAsync(assignment);
            return true;
        }, interleave: false);

        public Task CancelAsync() => from.World.CallAsync<TrialRun, bool>(from, "trial/" + key, trial =>
        {
            trial.Cancel();
            return Task.FromResult(true);
        });

        public Task PauseAsync() => from.World.CallAsync<TrialRun, bool>(from, "trial/" + key, trial =>
        {
            trial.Pause();
            return Task.FromResult(true);
        });

        public Task StopAsync(string reason) => from.World.CallAsync<TrialRun, bool>(from, "trial/" + key, trial =>
        {
            trial.Stop(reason);
            return Task.FromResult(true);
        });
    }

    private sealed class Reports(Silo from, string key) : ITrialReportsGrain
    {
        public Task<int> ReportAsync(TrialReport report) => from.World.CallAsync<ExperimentRun, int>(from, "experiment/" + key, run => run.ReportAsync(report));

        public Task<bool> PokeAsync() => from.World.CallAsync<ExperimentRun, bool>(from, "experiment/" + key, run => run.PokeAsync());
    }

    private sealed class Directory(Silo from, string key) : IExperimentDirectoryGrain
    {
        public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken = default) =>
            from.World.CallAsync<ExperimentDirectoryGrain, IReadOnlyList<ExperimentSummary>>(from, "directory/" + key, directory => directory.ListAsync(skip, take, cancellationToken), interleave: false);

        public Task PutAsync(ExperimentSummary summary) => from.World.CallAsync<ExperimentDirectoryGrain, bool>(from, "directory/" + key, async directory =>
        {
            await directory.PutAsync(summary);
            return true;
        }, interleave: false);
    }

    private static NotSupportedException Unused() => new("Nothing here is called by key of another kind.");

    TGrainInterface IGrainFactory.GetGrain<TGrainInterface>(Guid primaryKey, string? grainClassNamePrefix) => throw Unused();

    TGrainInterface IGrainFactory.GetGrain<TGrainInterface>(long primaryKey, string? grainClassNamePrefix) => throw Unused();

    TGrainInterface IGrainFactory.GetGrain<TGrainInterface>(Guid primaryKey, string keyExtension, string? grainClassNamePrefix) => throw Unused();

    TGrainInterface IGrainFactory.GetGrain<TGrainInterface>(long primaryKey, string keyExtension, string? grainClassNamePrefix) => throw Unused();

    TGrainObserverInterface IGrainFactory.CreateObjectReference<TGrainObserverInterface>(IGrainObserver obj) => throw Unused();

    void IGrainFactory.DeleteObjectReference<TGrainObserverInterface>(IGrainObserver obj) => throw Unused();

    IGrain IGrainFactory.GetGrain(Type grainInterfaceType, Guid grainPrimaryKey) => throw Unused();

    IGrain IGrainFactory.GetGrain(Type grainInterfaceType, long grainPrimaryKey) => throw Unused();

    IGrain IGrainFactory.GetGrain(Type grainInterfaceType, string grainPrimaryKey) => throw Unused();

    IGrain IGrainFactory.GetGrain(Type grainInterfaceType, Guid grainPrimaryKey, string keyExtension) => throw Unused();

    IGrain IGrainFactory.GetGrain(Type grainInterfaceType, long grainPrimaryKey, string keyExtension) => throw Unused();

    IAddressable IGrainFactory.GetGrain(Type interfaceType, IdSpan grainKey) => throw Unused();

    IAddressable IGrainFactory.GetGrain(Type interfaceType, IdSpan grainKey, string grainClassNamePrefix) => throw Unused();

    TGrainInterface IGrainFactory.GetGrain<TGrainInterface>(GrainId grainId) => throw Unused();

    IAddressable IGrainFactory.GetGrain(GrainId grainId) => throw Unused();

    IAddressable IGrainFactory.GetGrain(GrainId grainId, GrainInterfaceType interfaceType) => throw Unused();
}
