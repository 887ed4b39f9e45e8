using AdjointDpm.Formats;
using AdjointDpm.Models.Unet;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>The networks against outputs and gradients that diffusers computed.</summary>
public sealed class UnetReferenceTests
{
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
        Reference.Close(io.Read("output"), output, "output");

        autograd.backward([output], [io.Read("cotangent")], inputs: [.. leaves.Values, .. model.parameters()]);
        foreach (var (input, leaf) in leaves)
            Reference.Close(io.Read($"grad.{input}"), leaf.grad!, input);
        Reference.CloseGradients(model, Path.Combine(folder, "param_grads.safetensors"));
    }
}
