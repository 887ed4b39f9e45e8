using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>Where a trial's trained parameters lie while it runs: they gather the gradients of a step and take it. With the coordinator, or in ranges on several silos.</summary>
internal interface ITrainedParameters
{
    /// <summary>The committed version, for workers to fetch.</summary>
    TensorReference Reference { get; }

    /// <summary>Length of the pieces that gradients are wanted in; 0 for one.</summary>
    int PieceBytes { get; }

    /// <summary>Begins to gather the gradients of a step; what was gathered before is dropped.</summary>
    void Begin(int shards);

    /// <summary>Brings a shard's gradient to where it is added; afterwards the worker may forget it.</summary>
    /// <returns>Its bytes when they came here.</returns>
    Task<byte[]?> CollectAsync(WorkResult result, CancellationToken cancellationToken);

    /// <summary>A collected gradient counts.</summary>
    void Accept(int shard, WorkResult result, byte[]? gradient);

    /// <summary>Takes the step with what was gathered and writes the new version down.</summary>
    Task<SteppedVersion> StepAsync(int step);

    /// <summary>The version that was stepped to is the committed one.</summary>
    void Committed();

    /// <summary>Offers another version to workers, such as the untrained one.</summary>
    Task<TensorReference> OfferAsync(string sha256);

    /// <summary>Looks whether all of it is still there.</summary>
    /// <exception cref="Ranges.RangeLostException">A part is not.</exception>
    Task CheckAsync();

    /// <summary>Lets go of what is held in memory.</summary>
    void Release();
}

/// <param name="Norm">L2 norm of the gradient before clipping; when it is not finite nothing was stepped.</param>
/// <param name="ParametersSha256">New version, on the disk no later than the state that names it.</param>
/// <param name="OptimizerSha256">Its optimiser state, as well; null when the optimiser has none.</param>
/// <param name="ReduceSeconds">How long the gradient took.</param>
internal sealed record SteppedVersion(double Norm, string ParametersSha256, string? OptimizerSha256, double ReduceSeconds);

/// <summary>All parameters with the coordinator.</summary>
internal sealed class WholeParameters(byte[] parameters, float[] optimizer, TrialFiles files, TensorTransfer transfer, Background background, OptimizerSpec spec, TimeProvider time) : ITrainedParameters
{
    private readonly List<TensorReference> _others = [];
    private byte[] _parameters = parameters;
    private float[] _optimizer = optimizer;
    private GradientReduction? _reduction;
    private StepUpdate? _stepped;

    public TensorReference Reference { get; private set; } = transfer.Offer(parameters);

    public int PieceBytes => 0;

    public void Begin(int shards) => _reduction = new GradientReduction(shards, _parameters.Length / sizeof(float));

    public async Task<byte[]?> CollectAsync(WorkResult result, CancellationToken cancellationToken)
    {
        Lengths.Require(result, _parameters.Length);
        return await transfer.FetchAsync(result.Blob!, cancellationToken);
    }

    // A blob that this silo holds itself is shared with its store; the reduction changes what it gets.
    public void Accept(int shard, WorkResult result, byte[]? gradient) => _reduction!.Add(shard, TrialFiles.Floats(gradient), result.Weight);

    public async Task<SteppedVersion> StepAsync(int step)
    {
        var reduction = _reduction!;
        var stepped = await background.RunAsync(() => StepUpdate.Of(reduction, step, spec, _parameters, _optimizer, time));
        if (!double.IsFinite(stepped.Norm))
            return new SteppedVersion(stepped.Norm, "", null, stepped.ReduceSeconds);
        var sha = await files.WriteAsync(stepped.Parameters, Durability.BeforeTheNext);
        var state = stepped.Optimizer.Length == 0 ? null : await files.WriteAsync(TrialFiles.Bytes(stepped.Optimizer), Durability.BeforeTheNext);
        _stepped = stepped;
        return new SteppedVersion(stepped.Norm, sha, state, stepped.ReduceSeconds);
    }

    public void Committed()
    {
        transfer.Withdraw(Reference);
        (_parameters, _optimizer, _stepped) = (_stepped!.Parameters, _stepped.Optimizer, null);
        Reference = transfer.Offer(_parameters);
    }

    public async Task<TensorReference> OfferAsync(string sha256)
    {
        if (sha256 == Reference.Sha256)
            return Reference;
        _others.Add(transfer.Offer(await files.ReadAsync(sha256)));
        return _others[^1];
    }

    public Task CheckAsync() => Task.CompletedTask;

    public void Release()
    {
        foreach (var reference in _others.Append(Reference))
            transfer.Withdraw(reference);
    }
}
