using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models.Memory;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>The memory of a gradient of a model of which only the configuration is known.</summary>
internal static class Estimating
{
    public static ToolAnswer Run(EstimateRequest request)
    {
        NativeTorch.EnsureLoaded();
        var config = request.Model switch
        {
            "sd1" or "sd15" or "sd1.5" => StableDiffusionConfig.Sd1,
            "sd2" => StableDiffusionConfig.Sd2,
            "sdxl" => StableDiffusionConfig.Xl,
            var path => StableDiffusionSource.At(path).ReadConfig(),
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
        return new ToolAnswer { Memory = MemoryEstimates.Of(memory, request.Budget) };
    }
}
