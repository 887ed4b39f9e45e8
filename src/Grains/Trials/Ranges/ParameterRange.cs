using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Grains.Trials.Ranges;

/// <summary>One range of a trial's parameters: gathers its piece of every shard's gradient, steps its slice, keeps its slice of the optimiser's state.</summary>
/// <remarks>
/// Reduction, clipping and optimiser are elementwise, and the norm is summed range after range in the order of the parameters, so the bits
/// are those of one reducer that has everything.
/// </remarks>
internal sealed class ParameterRange(IActivation activation, TensorTransfer transfer, IDisk disk, SiloFolders folders, Background background, TimeProvider time, AdjointDpmInstruments instruments)
{
    /// <summary>A range that no coordinator has asked for during this time has been taken elsewhere.</summary>
    private static readonly TimeSpan Orphaned = TimeSpan.FromMinutes(10);

    private readonly Dictionary<int, (string Sha, Task Added)> _shards = [];
    private readonly Dictionary<string, TensorReference> _offered = [];
    private RangeLoad? _load;
    private TrialFiles? _files;
    private ExperimentSpec? _spec;
    private byte[] _parameters = [];
    private byte[] _optimizer = [];
    private RangeRound? _round;
    private GradientBuffers? _buffers;
    private GradientReduction? _reduction;
    private float[]? _mean;
    private IDisposable? _keep;
    private DateTimeOffset _asked;

    public async Task<RangeVersion> LoadAsync(RangeLoad load)
    {
        if (_load is { } held && !load.Claim.IsAfter(held.Claim))
            throw new RangeLostException($"The range is held for {held.Claim}; {load.Claim} is not after it.");
        Forget();
        _load = load;
        _asked = time.GetUtcNow();
        _keep ??= activation.Every(TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(1), Sweep);
        var files = new TrialFiles(disk, background, folders.TrialWork(load.Experiment, load.Trial), load.Claim.Epoch);
        var parameters = load.Untrained is { } untrained ? await transfer.FetchPieceAsync(untrained, load.Range, default) : await files.ReadAsync(load.ParametersSha256!);
        if (load.Untrained is not null)
            await files.WriteAsync(parameters);
        var optimizer = load.OptimizerSha256 is { } sha ? await files.ReadAsync(sha) : [];
        if (_load != load)
            throw new RangeLostException("The range was loaded once more meanwhile.");
        (_files, _spec, _parameters, _optimizer) = (files, ExperimentSpecJson.Deserialize(load.SpecJson), parameters, optimizer);
        return new RangeVersion(Offer(parameters), load.OptimizerSha256);
    }

    public Task AddAsync(RangeShard shard)
    {
        Require(shard.Round.Claim);
        if (_round != shard.Round)
        {
            if (_round is { } current && shard.Round.Step <= current.Step)
                throw new RangeLostException($"Step {shard.Round.Step + 1} is over: step {current.Step + 1} has begun.");
            _shards.Clear();
            (_round, _mean) = (shard.Round, null);
            if (_buffers?.Length != _parameters.Length / sizeof(float))
                _buffers = new GradientBuffers(_parameters.Length / sizeof(float));
            _reduction = new GradientReduction(_spec!.Training.Shards, _buffers.Length, _buffers);
        }
        // Of a shard that was given out twice the contents come once; a transfer that failed is tried anew.
        if (_shards.TryGetValue(shard.Shard, out var known) && !known.Added.IsFaulted && !known.Added.IsCanceled)
            return known.Sha == shard.Gradient.Sha256 ? known.Added : throw new RangeLostException($"Shard {shard.Shard} has come with other contents before: {known.Sha} and {shard.Gradient.Sha256}. A worker computes wrongly; the step is done again.");
        var added = AddAsync(shard, _reduction!);
        _shards[shard.Shard] = (shard.Gradient.Sha256, added);
        return added;
    }

    public async Task<double> SumOfSquaresAsync(RangeRound round, double before)
    {
        var reduction = Require(round);
        var mean = _mean ??= await background.RunAsync(reduction.Mean);
        return await background.RunAsync(() => GradientNorm.SumOfSquares(mean, before));
    }

    public async Task<RangeVersion> StepAsync(RangeRound round, double norm)
    {
        Require(round);
        var (mean, spec, files, before, stateBefore) = (_mean!, _spec!, _files!, _parameters, _optimizer);
        var (parameters, optimizer) = await background.RunAsync(() => StepUpdate.Stepped(mean, norm, round.Step + 1, spec, before, stateBefore));
        var written = await files.WriteAsync(parameters);
        var sha = optimizer.Length == 0 ? null : await files.WriteAsync(optimizer);
        Require(round);
        _buffers?.Return(mean);
        // Gathered and spent: from here on the step is done again only from the disk.
        (_reduction, _mean) = (null, null);
        Withdraw();
        (_parameters, _optimizer) = (parameters, optimizer);
        return new RangeVersion(Offer(parameters, written), sha);
    }

    public async Task<TensorReference> OfferAsync(RangeClaim claim, string sha256)
    {
        Require(claim);
        return _offered.TryGetValue(sha256, out var offered) ? offered : Offer(await _files!.ReadAsync(sha256));
    }

    /// <summary>Returns when the range is held for this coordinator, or being loaded for it.</summary>
    /// <exception cref="RangeLostException">It is not.</exception>
    public void Check(RangeClaim claim)
    {
        if (_load is null || _load.Claim != claim)
            throw new RangeLostException(_load is null ? "The range is not loaded here." : $"The range is held for {_load.Claim}, not {claim}.");
        _asked = time.GetUtcNow();
    }

    public void Release(RangeClaim claim)
    {
        if (_load?.Claim == claim)
            Stop();
    }

    public void Stop()
    {
        Forget();
        _load = null;
        _keep?.Dispose();
        _keep = null;
        activation.Deactivate();
    }

    private async Task AddAsync(RangeShard shard, GradientReduction reduction)
    {
        // Received where it is added.
        var gradient = _buffers!.Rent();
        var range = _load!.Range;
        await EncodedGradient.ReceiveAsync(_spec!.Training, shard.Round.Step, gradient, into => transfer.FetchPieceAsync(shard.Gradient, range, into, default));
        // A later round has its own.
        if (reduction != _reduction)
            throw new RangeLostException($"The gathering of step {shard.Round.Step + 1} is over.");
        instruments.GradientReceived((long)gradient.Length * EncodedGradient.BytesPerNumber(_spec!.Training, shard.Round.Step), (long)gradient.Length * sizeof(float));
        reduction.Add(shard.Shard, gradient, shard.Weight);
    }

    private void Require(RangeClaim claim)
    {
        Check(claim);
        if (_files is null)
            throw new RangeLostException("The range is not loaded yet.");
    }

    private GradientReduction Require(RangeRound round)
    {
        Require(round.Claim);
        return _round == round && _reduction is { IsComplete: true } complete ? complete : throw new RangeLostException($"The range has not gathered {round}.");
    }

    private TensorReference Offer(byte[] bytes, string? sha256 = null)
    {
        var reference = transfer.Pin(bytes, sha256);
        if (!_offered.TryAdd(reference.Sha256, reference))
            transfer.Unpin(reference);
        return _offered[reference.Sha256];
    }

    private void Withdraw()
    {
        foreach (var reference in _offered.Values)
            transfer.Unpin(reference);
        _offered.Clear();
    }

    private void Forget()
    {
        Withdraw();
        _shards.Clear();
        (_files, _round, _reduction, _buffers, _mean, _parameters, _optimizer) = (null, null, null, null, null, [], []);
    }

    private Task Sweep()
    {
        if (time.GetUtcNow() - _asked > Orphaned)
            Stop();
        return Task.CompletedTask;
    }
}
