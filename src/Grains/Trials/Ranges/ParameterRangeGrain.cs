using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Grains.Trials.Ranges;

/// <summary>Where a <see cref="ParameterRange"/> lives in a silo.</summary>
[NamedSiloPlacement]
internal sealed class ParameterRangeGrain : Grain, IParameterRangeGrain
{
    private readonly ParameterRange _range;

    public ParameterRangeGrain(IGrainFactory grains, TensorTransfer transfer, IDisk disk, SiloFolders folders, Background background, TimeProvider time, AdjointDpmInstruments instruments) =>
        _range = new ParameterRange(new GrainActivation(this, grains), transfer, disk, folders, background, time, instruments);

    public Task<RangeVersion> LoadAsync(RangeLoad load) => _range.LoadAsync(load);

    public Task AddAsync(RangeShard shard) => _range.AddAsync(shard);

    public Task<double> SumOfSquaresAsync(RangeRound round, double before) => _range.SumOfSquaresAsync(round, before);

    public Task<RangeVersion> StepAsync(RangeRound round, double norm) => _range.StepAsync(round, norm);

    public Task<TensorReference> OfferAsync(RangeClaim claim, string sha256) => _range.OfferAsync(claim, sha256);

    public Task CheckAsync(RangeClaim claim)
    {
        _range.Check(claim);
        return Task.CompletedTask;
    }

    public Task ReleaseAsync(RangeClaim claim)
    {
        _range.Release(claim);
        return Task.CompletedTask;
    }

    public override Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken)
    {
        _range.Stop();
        return Task.CompletedTask;
    }
}
