using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>Where a trial's trained parameters lie while it runs: they gather the gradients of a step and take it. With the coordinator, or in ranges on several silos.</summary>
internal interface ITrainedParameters
{
    /// <summary>The newest version, for workers to fetch.</summary>
    TensorReference Reference { get; }

    /// <summary>Whether <see cref="Reference"/> is the new version once it is stepped to; else from its commit on.</summary>
    bool StepsAhead { get; }

    /// <summary>Length of the pieces that gradients are wanted in; 0 for one.</summary>
    int PieceBytes { get; }

    /// <summary>Begins to gather the gradients of a step; what was gathered before is dropped.</summary>
    void Begin(int shards);

    /// <summary>Brings a shard's gradient to where it is added; afterwards the worker may forget it.</summary>
    /// <returns>Its bytes when they came here.</returns>
    Task<byte[]?> CollectAsync(WorkResult result, CancellationToken cancellationToken);

    /// <summary>A collected gradient counts.</summary>
    void Accept(int shard, WorkResult result, byte[]? gradient);

    /// <summary>Takes the step with what was gathered.</summary>
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
/// <param name="ReduceSeconds">How long the gradient took.</param>
/// <param name="WriteAsync">Called once; ends when the version is on its way to the disk, with its optimiser state, whose SHA-256 it tells; null when the optimiser has none.</param>
internal sealed record SteppedVersion(double Norm, string ParametersSha256, double ReduceSeconds, Func<Task<string?>> WriteAsync);

/// <summary>All parameters with the coordinator.</summary>
internal sealed class WholeParameters(byte[] parameters, byte[] optimizer, TrialFiles files, TensorTransfer transfer, Background background, ExperimentSpec spec, TimeProvider time, AdjointDpmInstruments instruments) : ITrainedParameters
{
    private readonly GradientBuffers _buffers = new(parameters.Length / sizeof(float));
    private readonly Dictionary<ShardToken, float[]> _collected = [];
    private readonly List<TensorReference> _others = [];
    private byte[] _parameters = parameters;
    private byte[] _optimizer = optimizer;

    // What a step made before the newest is on the disk and committed when the next step is taken. The memory of its optimiser state is used again, and that of its parameters unless a worker still reads them.
    private SpareMemory _spare;
    private bool _hasStepped;
    private GradientReduction? _reduction;

    public TensorReference Reference { get; private set; } = transfer.Pin(parameters);

    public bool StepsAhead => true;

    public int PieceBytes => 0;

    public void Begin(int shards)
    {
        _collected.Clear();
        _reduction = new GradientReduction(shards, _buffers.Length, _buffers);
    }

    public async Task<byte[]?> CollectAsync(WorkResult result, CancellationToken cancellationToken)
    {
        Lengths.Require(result, (long)_buffers.Length * EncodedGradient.BytesPerNumber(spec.Training, result.Token.Step));
        // Received where it is added: the coordinator makes no other copy. One that is broken off stays out of use, for something may yet arrive in it.
        var gradient = _buffers.Rent();
        await EncodedGradient.ReceiveAsync(spec.Training, result.Token.Step, gradient, into => transfer.FetchAsync(result.Blob!, into, cancellationToken));
        instruments.GradientReceived(result.Blob!.Length, gradient.Length * sizeof(float));
        _collected[result.Token] = gradient;
        return null;
    }

    public void Accept(int shard, WorkResult result, byte[]? gradient)
    {
        _collected.Remove(result.Token, out var collected);
        _reduction!.Add(shard, collected!, result.Weight);
    }

    public async Task<SteppedVersion> StepAsync(int step)
    {
        var (reduction, parameters, optimizer, spare) = (_reduction!, _parameters, _optimizer, _spare);
        var (stepped, sha) = await background.RunAsync(() =>
        {
            var update = StepUpdate.Of(reduction, step, spec, parameters, optimizer, time, spare);
            return (update, double.IsFinite(update.Norm) ? TensorReference.HashOf(update.Parameters) : "");
        });
        if (!double.IsFinite(stepped.Norm))
            return new SteppedVersion(stepped.Norm, sha, stepped.ReduceSeconds, () => Task.FromResult<string?>(null));
        // From here on it is what workers begin with. If it is not committed after all, whoever goes on reads the version before from the disk.
        // The very first may be a worker's, or another trial's.
        var isFree = transfer.Reclaim(Reference, parameters) && _hasStepped;
        (_parameters, _optimizer, _spare, _hasStepped) = (stepped.Parameters, stepped.Optimizer, new SpareMemory(isFree ? parameters : null, optimizer), true);
        Reference = transfer.Pin(_parameters, sha);
        return new SteppedVersion(stepped.Norm, sha, stepped.ReduceSeconds, () => WriteAsync(sha, stepped));
    }

    // Both at once: a commit waits for the disk, not for one file after the other.
    private async Task<string?> WriteAsync(string sha, StepUpdate stepped)
    {
        var parameters = files.WriteAsync(stepped.Parameters, Durability.BeforeTheNext, sha);
        var optimizer = stepped.Optimizer.Length == 0 ? null : await files.WriteAsync(stepped.Optimizer, Durability.BeforeTheNext);
        await parameters;
        return optimizer;
    }

    public void Committed()
    {
        // It is offered already.
    }

    public async Task<TensorReference> OfferAsync(string sha256)
    {
        if (sha256 == Reference.Sha256)
            return Reference;
        _others.Add(transfer.Pin(await files.ReadAsync(sha256), sha256));
        return _others[^1];
    }

    // They are pinned: whoever holds this holds them.
    public Task CheckAsync() => Task.CompletedTask;

    public void Release()
    {
        foreach (var reference in _others.Append(Reference))
            transfer.Unpin(reference);
    }
}
