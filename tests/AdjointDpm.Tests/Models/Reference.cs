using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>A stored network, and comparison with stored outputs and gradients, in float32.</summary>
internal static class Reference
{
    public const double Tolerance = 1e-5;

    // Biases in front of a normalisation of single channels, and of attention keys, cannot matter: their gradients are rounding (below 3e-6 here, the others above 7e-2).
    private const double ZeroBySymmetry = 1e-4;

    /// <summary>The small text-conditioned network, for use as it is.</summary>
    public static UNet2DConditionModel Unet(ScalarType dtype = ScalarType.Float32)
    {
        var folder = ReferenceFolder.Of("unet_condition");
        var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(folder, "config.json")));
        ModuleWeights.Load(unet, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
        unet.to(dtype);
        unet.eval();
        return unet;
    }

    public static void Close(Tensor expected, Tensor actual, string what, double tolerance = Tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        var size = expected.norm().Number();
        if (size < ZeroBySymmetry)
        {
            Assert.True(actual.norm().Number() < ZeroBySymmetry, $"{what}: norm {actual.norm().Number():e2} where the gradient vanishes");
            return;
        }

        var error = (expected - actual).norm().Number() / size;
        Assert.True(error <= tolerance, $"{what}: relative error {error:e2}");
    }

    /// <summary>Every gradient of a file is the parameter's of that name, and every parameter that the file leaves out has none.</summary>
    public static void CloseGradients(nn.Module model, string path)
    {
        using var gradients = SafetensorsFile.Open(path);
        var reached = model.named_parameters().Where(p => p.parameter.grad is not null).ToDictionary(p => p.name, p => p.parameter);
        Assert.Equal(gradients.Names, reached.Keys.Order(StringComparer.Ordinal));
        foreach (var (name, parameter) in reached)
            Close(gradients.Read(name), parameter.grad!, name);
    }
}
