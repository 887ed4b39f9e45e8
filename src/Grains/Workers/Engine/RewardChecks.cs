using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Losses;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Whether losses are fit for gradients, outside any cluster.</summary>
public static class RewardChecks
{
    /// <summary>Tests the losses of an experiment on samples of its model, or a reward alone on smooth random pictures.</summary>
    /// <exception cref="ArgumentException">The request names neither, or a file of a kind that is no reward.</exception>
    /// <exception cref="InvalidDataException">A file cannot be read, or is no reward.</exception>
    public static IReadOnlyList<RewardFitness> Run(CheckRewardRequest request, IProgress<ToolProgress>? telling = null, CancellationToken cancellationToken = default) => Run(request, OwnLosses.None, telling, cancellationToken);

    /// <param name="request">What to test.</param>
    /// <param name="own">Losses that the host brought.</param>
    /// <param name="telling">Told how far it is; null for nobody.</param>
    /// <param name="cancellationToken">Looked at between losses.</param>
    internal static IReadOnlyList<RewardFitness> Run(CheckRewardRequest request, OwnLosses own, IProgress<ToolProgress>? telling, CancellationToken cancellationToken)
    {
        if (request.SpecJson is { } json)
        {
            using var engine = new GradientEngine("cpu:0", own);
            return engine.CheckRewards(ExperimentSpecJson.Deserialize(json), request.Samples, telling, cancellationToken);
        }

        telling?.Report(new("testing the reward", 0, 0));
        NativeTorch.EnsureLoaded();
        using var scope = NewDisposeScope();
        var range = request.Symmetric ? PixelRange.Symmetric : PixelRange.Unit;
        if (request.Address is { } address)
        {
            using var http = RewardSidecar.NewClient();
            var sidecar = new RewardSidecar(http, [new Uri(address)], new RewardSidecarOptions { Range = range }, TimeProvider.System);
            return [Of(address, sidecar.AsLoss(cancellationToken), Pictures(request, ScalarType.Float32))];
        }

        var path = request.File ?? throw new ArgumentException("Nothing to test is named.", nameof(request));
        switch (Path.GetExtension(path))
        {
            case ".onnx":
                using (var onnx = OnnxLoss.Load(path, request.Column, range))
                    return [Of(Path.GetFileName(path), onnx.To(CPU, ScalarType.Float64), Pictures(request, ScalarType.Float64))];
            case ".pt" or ".pth" or ".ts":
                using (var script = TorchScriptLoss.Load(path, range))
                    return [Of(Path.GetFileName(path), script.To(CPU, ScalarType.Float64), Pictures(request, ScalarType.Float64))];
            default:
                throw new ArgumentException($"'{path}' is no reward that can be tested alone. Give an experiment (.yaml), a TorchScript file (.pt), an ONNX file (.onnx) or the address of a sidecar; a class of C# is tested by RewardCheck.Run.", nameof(request));
        }
    }

    internal static RewardFitness Of(string name, SampleLoss loss, Tensor samples)
    {
        var report = RewardCheck.Run(loss, samples);
        return new RewardFitness(name, report.Problems)
        {
            Lowest = report.Lowest,
            Highest = report.Highest,
            Mean = report.Mean,
            GradientNorm = report.GradientNorm,
            Precision = report.Precision == ScalarType.Float64 ? "float64" : report.Precision == ScalarType.Float32 ? "float32" : report.Precision.ToString(),
            Tolerance = report.Tolerance,
            Slopes = [.. report.Slopes.Select(slope => new RewardDirection(slope.Direction, slope.Gradient, slope.Difference, slope.RelativeError))],
            Coupling = report.Coupling,
            Deterministic = report.Deterministic,
        };
    }

    /// <summary>Pictures in [-1, 1] that are neither flat nor mere noise: noise of an eighth of the size, enlarged.</summary>
    private static Tensor Pictures(CheckRewardRequest request, ScalarType dtype)
    {
        var (channels, height, width) = (request.Shape[0], request.Shape[1], request.Shape[2]);
        var coarse = CounterNoise.Normal(new NoiseKey(1), [request.Samples, channels, Math.Max(1, height / 8), Math.Max(1, width / 8)], dtype);
        return ImageResize.To(coarse, height, width, ResizeFilter.Bicubic).tanh();
    }
}
