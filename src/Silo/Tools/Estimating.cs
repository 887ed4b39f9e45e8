using AdjointDpm.Grains.Tools;
using AdjointDpm.Models.Memory;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>The memory of a gradient from configurations alone, by every way that there is, and the one for a budget.</summary>
internal static class Estimating
{
    // Parameters in float32 and AdamW's two moments.
    private const int BytesOfOptimizer = 12;

    public static ToolAnswer Run(EstimateRequest request)
    {
        NativeTorch.EnsureLoaded();
        var config = request.Model switch
        {
            "sd1" or "sd15" or "sd1.5" => StableDiffusionConfig.Sd1,
            "sd2" => StableDiffusionConfig.Sd2,
            "sdxl" => StableDiffusionConfig.Xl,
            var folder => StableDiffusionFolder.Open(folder).ReadConfig(),
        };
        var (height, width) = config.SizeOr(request.Height, request.Width, "Give --size.");
        var memory = new StableDiffusionMemory
        {
            Config = config,
            Height = height,
            Width = width,
            Steps = request.Steps,
            Batch = request.Batch,
            Dtype = DtypeNames.Read(request.Dtype) ?? ScalarType.Float32,
            Guided = request.Guided,
            Trained = request.Trained,
            Rank = request.Rank,
        };
        var weights = memory.Weights();
        List<MemoryEstimate> rows = [.. memory.Ways().Select(way => memory.Estimate(way, weights))];
        // Ways come in the order of their cost.
        var chosen = request.Budget is { } budget ? rows.FirstOrDefault(row => row.PeakBytes + weights.Bytes <= budget) ?? throw TooLittle(budget, rows.MinBy(row => row.PeakBytes)!, weights) : null;
        return new ToolAnswer
        {
            Memory = new ShardMemory(request.Batch, request.Steps, weights.Bytes, weights.TrainedNumbers, weights.TrainedNumbers * BytesOfOptimizer, [.. rows.Select(row =>
                new MethodMemory(row.Way.ToString(), row.PeakBytes, row.StateBytes, row.NetworkBytes, row.LossBytes, row.GradientBytes, row.Evaluations) { IsChosen = ReferenceEquals(row, chosen), Settings = Settings(row.Way) })]),
        };
    }

    private static InsufficientMemoryException TooLittle(long budget, MemoryEstimate least, MemoryWeights weights) => new(FormattableString.Invariant(
        $"Nothing fits in {budget:n0} bytes. The least is {least.PeakBytes + weights.Bytes:n0} bytes by {least.Way}: {weights.Bytes:n0} for weights, {least.NetworkBytes:n0} for the network, {least.LossBytes:n0} for decoder and loss, {least.GradientBytes:n0} for gradients of weights, {least.StateBytes:n0} for states. Use a smaller batch or picture, half precision, fewer trained weights, or that budget."));

    private static string Settings(MemoryWay way) => string.Join('\n', new[]
    {
        $"gradient.method: {(way.Unrolled ? "store-all" : way.Offloaded ? "offloaded" : "discrete")}",
        way.Checkpointing ? "model.checkpointing: true" : null,
        way.Slicing ? "model.decoderSlices: true" : null,
        way.Tile is { } side ? FormattableString.Invariant($"model.decoderTiles: {side}") : null,
        way.Fused ? "model.fusedAttention: true" : null,
    }.Where(line => line is not null));
}
