using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class ClipVisionTests
{
    private static readonly string Folder = ReferenceFolder.Of("clip_vision");

    [Fact]
    public void Forward_ReferenceWeights_OutputAndEveryGradientArePyTorchs()
    {
        using var scope = NewDisposeScope();
        using var model = ClipVisionModel.Load(Folder);
        using var io = SafetensorsFile.Open(Path.Combine(Folder, "io.safetensors"));
        foreach (var parameter in model.parameters())
            parameter.requires_grad = true;
        var pixels = io.Read("pixels").requires_grad_();
        var output = model.call(pixels);
        Reference.Close(io.Read("output"), output, "output");
        autograd.backward([output], [io.Read("cotangent")], inputs: [pixels, .. model.parameters()]);
        Reference.Close(io.Read("grad.pixels"), pixels.grad!, "pixels");
        Reference.CloseGradients(model, Path.Combine(Folder, "param_grads.safetensors"));
    }

    [Fact]
    public void Load_WholeClip_PassesTheTextPartOver_AndOtherSizesAreNamed()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        File.Copy(Path.Combine(Folder, "config.json"), folder["config.json"]);
        using (var file = SafetensorsFile.Open(Path.Combine(Folder, "model.safetensors")))
        {
            var tensors = file.Names.ToDictionary(n => n, file.Read);
            tensors["text_model.final_layer_norm.weight"] = ones(3);
            tensors["logit_scale"] = ones([]);
            tensors["vision_model.embeddings.position_ids"] = arange(10);
            SafetensorsWriter.Write(folder["model.safetensors"], tensors);
        }

        using var model = ClipVisionModel.Load(folder.Path);
        Assert.Contains("[B, 3, 12, 12]", Assert.Throws<ArgumentException>(() => model.call(zeros(1, 3, 8, 8))).Message, StringComparison.Ordinal);
        Assert.Contains("does not divide", Assert.Throws<ModelConfigException>(() => new ClipVisionModel(new() { ImageSize = 10, PatchSize = 3 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Prepare_NormalisesAsCLIPDoes_AndKeepsTheGradient()
    {
        using var scope = NewDisposeScope();
        using var model = ClipVisionModel.Load(Folder);
        var black = model.Prepare(full([1, 3, 12, 12], -1.0f));
        Assert.Equal(-0.48145466 / 0.26862954, black[0, 0, 3, 3].ToDouble(), 1e-6);
        Assert.Equal((1 - 0.40821073) / 0.27577711, model.Prepare(full([1, 3, 12, 12], 1.0f))[0, 2, 0, 0].ToDouble(), 1e-6);
        var image = full([1, 3, 31, 20], 2.0f).requires_grad_();
        var prepared = model.Prepare(image);
        Assert.Equal([1L, 3, 12, 12], prepared.shape);
        autograd.backward([model.call(prepared).sum()], inputs: [image]);
        Assert.True(image.grad!.abs().sum().ToDouble() > 0);
    }
}
