using AdjointDpm.Formats;
using AdjointDpm.Models.Unet;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>The networks against outputs and gradients that diffusers computed.</summary>
public sealed class UnetReferenceTests
{
    private const double Tolerance = 1e-5;

    // Biases in front of a normalisation of single channels, and of attention keys, cannot matter: their gradients are rounding (below 3e-6 here, the others above 7e-2).
    private const double ZeroBySymmetry = 1e-4;

    [Fact]
    public void UNet2DModel_ReferenceWeights_OutputAndEveryGradientAreDiffusers()
    {
        using var model = new UNet2DModel(UNet2DConfig.Read(Path.Combine(ReferenceFolder.Of("unet_2d"), "config.json")));
        Compare("unet_2d", model, ["sample"], (io, leaves) => model.call(leaves["sample"], io("timestep"), null));
    }

    [Fact]
    public void UNet2DConditionModel_ReferenceWeights_OutputAndEveryGradientAreDiffusers()
    {
        using var model = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(ReferenceFolder.Of("unet_condition"), "config.json")));
        Compare("unet_condition", model, ["sample", "encoder_hidden_states"],
            (io, leaves) => model.call(leaves["sample"], io("timestep"), leaves["encoder_hidden_states"]));
    }

    private static void Compare(string name, nn.Module model, string[] inputs, Func<Func<string, Tensor>, Dictionary<string, Tensor>, Tensor> run)
    {
        using var scope = NewDisposeScope();
        var folder = ReferenceFolder.Of(name);
        ModuleWeights.Load(model, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
        model.eval();
        using var io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
        var leaves = inputs.ToDictionary(i => i, i => io.Read(i).requires_grad_());
        var output = run(io.Read, leaves);
        Close(io.Read("output"), output, "output");

        autograd.backward([output], [io.Read("cotangent")], inputs: [.. leaves.Values, .. model.parameters()]);
        foreach (var (input, leaf) in leaves)
            Close(io.Read($"grad.{input}"), leaf.grad!, input);
        using var gradients = SafetensorsFile.Open(Path.Combine(folder, "param_grads.safetensors"));
        var parameters = model.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        Assert.Equal(gradients.Names, parameters.Keys.Order(StringComparer.Ordinal));
        foreach (var (parameter, value) in parameters)
            Close(gradients.Read(parameter), value.grad!, parameter);
    }

    private static void Close(Tensor expected, Tensor actual, string what)
    {
        Assert.Equal(expected.shape, actual.shape);
        var size = expected.norm().ToDouble();
        if (size < ZeroBySymmetry)
        {
            Assert.True(actual.norm().ToDouble() < ZeroBySymmetry, $"{what}: norm {actual.norm().ToDouble():e2} where the gradient vanishes");
            return;
        }

        var error = (expected - actual).norm().ToDouble() / size;
        Assert.True(error <= Tolerance, $"{what}: relative error {error:e2}");
    }
}
