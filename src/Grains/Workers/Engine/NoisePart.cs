using AdjointDpm.Formats;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The initial noise x_T of all samples of a trial: [shards x samplesPerShard, ...]. Each is moved by its own loss alone.</summary>
internal sealed class NoisePart : TrainedPart
{
    private readonly ExperimentSpec _spec;
    private readonly Tensor _start;
    private readonly Tensor _noise;
    private readonly ScalarType _dtype;
    private readonly Device _device;

    /// <param name="spec">Spec.</param>
    /// <param name="shape">Shape of one sample, [1, ...].</param>
    /// <param name="dtype">Dtype of states.</param>
    /// <param name="device">Device of states.</param>
    public NoisePart(ExperimentSpec spec, long[] shape, ScalarType dtype, Device device)
    {
        (_spec, _dtype, _device) = (spec, dtype, device);
        using var scope = NewDisposeScope();
        // fp32, as parameters travel: what the first step begins with is what an evaluation before it sees.
        var shards = Enumerable.Range(0, spec.Training.Shards).Select(shard => Drawn(shard, [spec.Training.SamplesPerShard, .. shape[1..]]));
        _start = cat([.. shards], 0).DetachFromDisposeScope();
        _noise = _start.clone().DetachFromDisposeScope();
    }

    public override IReadOnlyList<Tensor> Values => [_noise];

    public override bool ChangesModel => false;

    /// <summary>x_T of some samples of a shard, as they are now, in the current dispose scope.</summary>
    public Tensor Of(int shard, int from, int count) =>
        _noise.narrow(0, (long)shard * _spec.Training.SamplesPerShard + from, count).to(_dtype, _device);

    /// <summary>What chance would have made of moves of x_T of some samples of a shard: as long as they are in the norm of the box, and blind. In the current dispose scope.</summary>
    /// <param name="moves">How far x_T went, [count, ...].</param>
    /// <param name="shard">Logical shard.</param>
    /// <param name="from">First sample within the shard.</param>
    /// <remarks>In the largest value: the moves themselves with random signs, as long in every norm. In the Euclidean norm: isotropic noise, since an attack that puts its length where it counts would lend its choice to chance.</remarks>
    public Tensor Blind(Tensor moves, int shard, int from)
    {
        var key = new NoiseKey((ulong)_spec.Training.Seed, 0, (ushort)shard, DrawWords.Chance);
        var normal = CounterNoise.Normal(key, [_spec.Training.SamplesPerShard, .. _noise.shape[1..]]).narrow(0, from, moves.shape[0]).to(_dtype, _device);
        if (_spec.Train.Noise?.Box?.Norm != NoiseBoxNorm.L2)
            return moves.mul(normal.sign());
        return normal.mul(Lengths(moves).div(Lengths(normal)));
    }

    /// <summary>x_T of the noises themselves, that is of the first of each noise's starts.</summary>
    public Tensor Centre(int shard, int from, int count)
    {
        var restarts = FixedSamples.Restarts(_spec);
        var at = (long)shard * _spec.Training.SamplesPerShard + from;
        return _start.index_select(0, tensor([.. Enumerable.Range(0, count).Select(i => (at + i) / restarts * restarts)])).to(_dtype, _device);
    }

    public override NoiseField Declare(NoiseField field) => field;

    public override void Apply()
    {
    }

    public override IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch)
    {
        // What comes is of the mean over a shard, and the shards' gradients will be averaged: undone here, so that each sample's is of its own loss.
        using var scope = NewDisposeScope();
        var whole = zeros_like(_noise);
        using var factor = ((double)FixedSamples.Total(_spec)).ToScalar();
        var own = solved.Noise!.to(ScalarType.Float32).cpu().mul(factor);
        whole.narrow(0, (long)batch.Shard * _spec.Training.SamplesPerShard + batch.From, batch.Count).copy_(own);
        return [whole.MoveToOuterDisposeScope()];
    }

    public override void SaveBeside(string folder, SampledModel model, ExperimentSpec spec) => SafetensorsWriter.Write(
        Path.Combine(folder, "noise.safetensors"),
        new Dictionary<string, Tensor> { ["before"] = _start, ["after"] = _noise },
        new Dictionary<string, string> { ["restarts"] = FixedSamples.Restarts(spec).ToString(System.Globalization.CultureInfo.InvariantCulture) });

    public override void Dispose()
    {
        _start.Dispose();
        _noise.Dispose();
    }

    /// <summary>A shard's noise; starts of one noise share it, and all but the first are moved to a place in the box.</summary>
    private Tensor Drawn(int shard, long[] shape)
    {
        var key = new NoiseKey((ulong)_spec.Training.Seed, 0, (ushort)shard);
        var noise = CounterNoise.Normal(key, shape);
        var restarts = FixedSamples.Restarts(_spec);
        if (restarts == 1)
            return noise;
        var box = _spec.Train.Noise!.Box!;
        noise = noise.index_select(0, tensor([.. Enumerable.Range(0, (int)shape[0]).Select(i => (long)(i / restarts * restarts))]));
        var normal = CounterNoise.Normal(key with { Draw = DrawWords.Starts }, shape, ScalarType.Float64);
        using Scalar root = Math.Sqrt(2).ToScalar(), radius = box.Radius.ToScalar();
        var moved = (box.Norm == NoiseBoxNorm.Linf
            // Uniform in the box.
            ? normal.div(root).erf()
            // Uniform in direction; nearly all of a ball of so many dimensions is at its surface.
            : normal.div(Lengths(normal))).mul(radius);
        var first = tensor([.. Enumerable.Range(0, (int)shape[0]).Select(i => i % restarts == 0 ? 0.0 : 1.0)], Column(normal), ScalarType.Float64);
        return noise.sub(moved.mul(first).to(ScalarType.Float32).neg());
    }

    /// <summary>Euclidean length of each sample, to be divided by: [B, 1, ...].</summary>
    private static Tensor Lengths(Tensor x) => x.flatten(1).norm(1).reshape(Column(x));

    private static long[] Column(Tensor x) => [x.shape[0], .. Enumerable.Repeat(1L, (int)x.dim() - 1)];
}

/// <summary>Rows of a conditioning: tokens' states of every prompt, or rows of a class table.</summary>
internal sealed class ConditionPart : TrainedPart
{
    private readonly TrainedConditioning _conditioning;
    private readonly long[] _positions;
    private readonly Tensor _rows;

    public ConditionPart(TrainedConditioning conditioning, IReadOnlyList<int>? positions)
    {
        _conditioning = conditioning;
        var count = conditioning.Table.shape[1];
        if (positions?.Any(p => p >= count) == true)
            throw new InvalidDataException($"train.positions holds {positions.First(p => p >= count)}, but the conditioning has {count} rows, counted from 0.");
        _positions = positions is null ? [.. Enumerable.Range(0, (int)count).Select(i => (long)i)] : [.. positions.Select(p => (long)p)];
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        _rows = Chosen(conditioning.Table).to(ScalarType.Float32).clone().DetachFromDisposeScope();
    }

    public override IReadOnlyList<Tensor> Values => [_rows];

    public override bool ChangesModel => _conditioning.InModel;

    public override NoiseField Declare(NoiseField field) => _conditioning.InModel ? field.With(TrainedConditioning.Name, _conditioning.Input!) : field;

    public override void BringTo(nn.Module network, ParameterVersion version)
    {
        if (!_conditioning.InModel)
            return;
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var table = network.get_parameter(_conditioning.FileName)!;
        table.index_copy_(0, tensor(_positions, device: table.device), _rows[0].to(table.dtype, table.device));
    }

    public override void Apply()
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var table = _conditioning.Table;
        table.index_copy_(1, tensor(_positions, device: table.device), _rows.to(table.dtype, table.device));
    }

    public override IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch)
    {
        using var scope = NewDisposeScope();
        var given = solved.Inputs[TrainedConditioning.Name];
        if (_conditioning.InModel)
            return [Chosen(given.unsqueeze(0)).MoveToOuterDisposeScope()];
        // One leaf for each sample: those of one prompt are added up.
        var sum = zeros(_conditioning.Table.shape, dtype: given.dtype, device: given.device);
        return [Chosen(sum.index_add(0, tensor(batch.Conditions, device: given.device), given, 1)).MoveToOuterDisposeScope()];
    }

    public override void SaveBeside(string folder, SampledModel model, ExperimentSpec spec) => SafetensorsWriter.Write(
        Path.Combine(folder, "condition.safetensors"),
        new Dictionary<string, Tensor> { [_conditioning.FileName] = _conditioning.InModel ? _conditioning.Table[0] : _conditioning.Table },
        new Dictionary<string, string> { ["positions"] = string.Join(',', _positions) });

    public override void Dispose() => _rows.Dispose();

    private Tensor Chosen(Tensor table) => table.index_select(1, tensor(_positions, device: table.device));
}

/// <summary>What of a model's conditioning can be trained.</summary>
/// <param name="Table">Rows that are trained, [prompts, tokens, width], or [1, classes, width]; not owned, written in place.</param>
/// <param name="Input">The model's own table, where the rows are part of its weights; null where a field is made of them for each batch.</param>
/// <param name="FileName">Name in files.</param>
internal sealed record TrainedConditioning(Tensor Table, Tensor? Input, string FileName)
{
    public const string Name = "condition";

    public bool InModel => Input is not null;
}
