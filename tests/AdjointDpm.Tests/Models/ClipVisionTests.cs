using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Tests.Formats;
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

    /// <summary>The reference under OpenCLIP's names, in its forms: one projection for queries, keys and values, the last one the other way round.</summary>
    [Fact]
    public void Load_OpenClipNames_IsTheSameTower()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var file = SafetensorsFile.Open(Path.Combine(Folder, "model.safetensors"));
        var open = new Dictionary<string, Tensor>
        {
            ["visual.class_embedding"] = file.Read("vision_model.embeddings.class_embedding"),
            ["visual.conv1.weight"] = file.Read("vision_model.embeddings.patch_embedding.weight"),
            ["visual.positional_embedding"] = file.Read("vision_model.embeddings.position_embedding.weight"),
            ["visual.proj"] = file.Read("visual_projection.weight").t().contiguous(),
            ["logit_scale"] = ones([]),
            ["token_embedding.weight"] = ones(3, 4),
        };
        foreach (var kind in new[] { "weight", "bias" })
        {
            open["visual.ln_pre." + kind] = file.Read("vision_model.pre_layrnorm." + kind);
            open["visual.ln_post." + kind] = file.Read("vision_model.post_layernorm." + kind);
            for (var n = 0; n < 3; n++)
            {
                var (theirs, ours) = ($"visual.transformer.resblocks.{n}.", $"vision_model.encoder.layers.{n}.");
                open[$"{theirs}attn.in_proj_{kind}"] = cat([.. new[] { "q", "k", "v" }.Select(p => file.Read($"{ours}self_attn.{p}_proj.{kind}"))], 0);
                foreach (var (a, b) in new[] { ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2") })
                    open[$"{theirs}{a}.{kind}"] = file.Read($"{ours}{b}.{kind}");
            }
        }

        File.Copy(Path.Combine(Folder, "config.json"), folder["config.json"]);
        SafetensorsWriter.Write(folder["open_clip_model.safetensors"], open);
        using var expected = ClipVisionModel.Load(Folder);
        using var actual = ClipVisionModel.Load(folder.Path);
        var read = actual.state_dict();
        Assert.All(expected.state_dict(), p => Assert.True(p.Value.Equals(read[p.Key]), p.Key));
        Assert.All(actual.parameters(), p => Assert.False(p.requires_grad));
        open["visual.ln_extra"] = ones(2);
        SafetensorsWriter.Write(folder["open_clip_model.safetensors"], open);
        Assert.Contains("visual.ln_extra", Assert.Throws<SafetensorsException>(() => ClipVisionModel.Load(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Prepare_NormalisesAsCLIPDoes_AndKeepsTheGradient()
    {
        using var scope = NewDisposeScope();
        using var model = ClipVisionModel.Load(Folder);
        var black = model.Prepare(full([1, 3, 12, 12], -1.0f));
        Assert.Equal(-0.48145466 / 0.26862954, black[0, 0, 3, 3].Number(), 1e-6);
        Assert.Equal((1 - 0.40821073) / 0.27577711, model.Prepare(full([1, 3, 12, 12], 1.0f))[0, 2, 0, 0].Number(), 1e-6);
        var image = full([1, 3, 31, 20], 2.0f).requires_grad_();
        var prepared = model.Prepare(image);
        Assert.Equal([1L, 3, 12, 12], prepared.shape);
        autograd.backward([model.call(prepared).sum()], inputs: [image]);
        Assert.True(image.grad!.abs().sum().Number() > 0);
    }
}
