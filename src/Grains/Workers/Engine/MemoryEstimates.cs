using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models;
using AdjointDpm.Models.Memory;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The memory of a gradient from configurations alone, by every way that there is, and the one for a budget.</summary>
public static class MemoryEstimates
{
    // Parameters in float32 and AdamW's two moments.
    private const int BytesOfOptimizer = 12;
    private const long Large = 100_000_000;

    /// <summary>All ways of a model.</summary>
    /// <param name="memory">The model, and what is drawn of it.</param>
    /// <param name="budget">Bytes for weights and gradient together; null for no limit.</param>
    /// <param name="configured">The way that a spec asks for. Default: none.</param>
    /// <exception cref="InsufficientMemoryException">Nothing fits; says what would.</exception>
    public static ShardMemory Of(StableDiffusionMemory memory, long? budget, MemoryWay? configured = null)
    {
        ArgumentNullException.ThrowIfNull(memory);
        var weights = memory.Weights();
        List<MemoryEstimate> rows = [.. memory.Ways().Select(way => memory.Estimate(way, weights))];
        // Ways come in the order of their cost.
        var chosen = budget is { } most ? rows.FirstOrDefault(row => row.PeakBytes + weights.Bytes <= most) ?? throw TooLittle(most, rows.MinBy(row => row.PeakBytes)!, weights) : null;
        if (configured is not null && rows.All(row => row.Way != configured))
            rows.Insert(0, memory.Estimate(configured, weights));
        return new ShardMemory(memory.Batch, memory.Steps, weights.Bytes, weights.TrainedNumbers, weights.TrainedNumbers * BytesOfOptimizer, [.. rows.Select(row =>
            new MethodMemory(row.Way.ToString(), row.PeakBytes, row.StateBytes, row.NetworkBytes, row.LossBytes, row.GradientBytes, row.Evaluations) { IsChosen = ReferenceEquals(row, chosen), IsConfigured = row.Way == configured, Settings = Settings(row.Way) })])
        {
            IsEstimated = true,
        };
    }

    /// <summary>All ways of an experiment on a text model, which is not loaded; null for other models.</summary>
    /// <param name="spec">Spec; a search over it is left out.</param>
    /// <param name="budget">Bytes for weights and gradient together; null for no limit.</param>
    /// <param name="always">Whether small networks, which can be measured in no time, are estimated too.</param>
    internal static ShardMemory? Of(ExperimentSpec spec, long? budget, bool always)
    {
        var path = spec.Model.Path;
        if (!File.Exists(path) && DiffusersFolder.Open(path).UnetClass != nameof(UNet2DConditionModel))
            return null;
        var source = StableDiffusionSource.At(path, spec.Model.Prediction is { } prediction ? ExperimentSpecJson.NameOf(prediction) : null);
        var config = source.ReadConfig();
        var (height, width) = config.SizeOr(spec.Sample.Height, spec.Sample.Width, "Set sample.height and sample.width.");
        var memory = MemoryOf(spec, config, height, width);
        return always || memory.UnetWeights() > Large ? Of(memory, budget, Configured(spec)) with { Steps = spec.Sample.Steps } : null;
    }

    /// <summary>What a spec sets for a way, one key on a line.</summary>
    internal static string Settings(MemoryWay way) => string.Join('\n', new[]
    {
        $"gradient.method: {(way.Unrolled ? "store-all" : way.Offloaded ? "offloaded" : "discrete")}",
        way.Checkpointing ? "model.checkpointing: true" : null,
        way.Slicing ? "model.decoderSlices: true" : null,
        way.Tile is { } side ? FormattableString.Invariant($"model.decoderTiles: {side}") : null,
        way.Fused ? "model.fusedAttention: true" : null,
    }.Where(line => line is not null));

    /// <summary>What a spec draws and trains of a model.</summary>
    internal static StableDiffusionMemory MemoryOf(ExperimentSpec spec, StableDiffusionConfig config, int height, int width) => new()
    {
        Config = config,
        Height = height,
        Width = width,
        Steps = Evaluations(spec, config),
        Batch = spec.Training.SamplesPerShard,
        Dtype = LoadedModel.NetworkDtypeOf(spec.Model.Dtype),
        Guided = spec.Sample.Guidance != 1,
        Trained = spec.Train.Target is TrainTarget.Weights or TrainTarget.Lora ? spec.Train.Include : [],
        Rank = spec.Train.Target == TrainTarget.Lora ? spec.Train.Rank : null,
    };

    /// <summary>The way that a spec asks for; null for methods that are planned by measurement only.</summary>
    internal static MemoryWay? Configured(ExperimentSpec spec) => spec.Gradient.Method is not (GradientName.StoreAll or GradientName.Discrete or GradientName.Offloaded) ? null : new(
        Unrolled: spec.Gradient.Method == GradientName.StoreAll, Checkpointing: spec.Model.Checkpointing ?? false, Slicing: spec.Model.DecoderSlices ?? false, Tile: spec.Model.DecoderTiles,
        Fused: spec.Model.FusedAttention ?? false, Offloaded: spec.Gradient.Method == GradientName.Offloaded);

    // Samplers may evaluate more than once a step. Adaptive ones find their steps as they go: taken for one evaluation each.
    private static int Evaluations(ExperimentSpec spec, StableDiffusionConfig config)
    {
        var sampler = SolveMethods.Sampler(spec.Sample);
        if (sampler is AdaptiveSampler)
            return spec.Sample.Steps;
        var grid = SolveMethods.Grid(spec.Sample, config.Scheduler.Schedule());
        return Enumerable.Range(0, grid.Steps).Sum(step => sampler.Plan(grid, step).Evaluations.Length);
    }

    private static InsufficientMemoryException TooLittle(long budget, MemoryEstimate least, MemoryWeights weights) => new(FormattableString.Invariant(
        $"Nothing fits in {budget:n0} bytes. The least is {least.PeakBytes + weights.Bytes:n0} bytes by {least.Way}: {weights.Bytes:n0} for weights, {least.NetworkBytes:n0} for the network, {least.LossBytes:n0} for decoder and loss, {least.GradientBytes:n0} for gradients of weights, {least.StateBytes:n0} for states. Use a smaller batch or picture, half precision, fewer trained weights, or that budget."));
}
