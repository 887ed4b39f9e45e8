using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class LoraWeightsTests
{
    private static readonly Scalar Tenth = 0.1;

    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    /// <summary>Every layer of every network adapted, written in both dialects, read back and merged: the weights are those of the folded adapters.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void BothDialects_AfterReading_MergeToTheFoldedWeights(string kind)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        using var weights = Adapted(model, out var folded);
        var files = weights.WriteBoth(folder.Path, "fox", model, new Dictionary<string, string> { ["ss_seed"] = "7" });
        foreach (var file in files)
        {
            using var read = LoraWeights.Read(file, model);
            Assert.Equal("7", read.Metadata["ss_seed"]);
            Assert.All(read.Layers, l => Assert.Equal((3, 1.5), (l.Rank, l.Alpha)));
            Assert.Equal(weights.Layers.Select(l => (l.Component, l.Module)).Order(), read.Layers.Select(l => (l.Component, l.Module)).Order());
            using var merged = TinyModels.Make(kind);
            read.Merge(merged);
            var networks = new LoraNames(merged).Networks;
            Assert.All(folded, p => Assert.True(p.Value.allclose(networks[p.Key.Component].get_parameter(p.Key.Name)!, 1e-5, 1e-7), p.Key.Name));
            Assert.Equal(networks.Sum(n => n.Value.named_parameters().Count(p => p.parameter.dim() > 1 && !p.name.Contains("embeddings", StringComparison.Ordinal))), folded.Count);
            read.Merge(merged, -1);
            using var plain = TinyModels.Make(kind);
            Assert.All(folded.Keys, k => Assert.True(networks[k.Component].get_parameter(k.Name)!.allclose(new LoraNames(plain).Networks[k.Component].get_parameter(k.Name)!, 1e-5, 1e-6), k.Name));
        }

        using var kohya = SafetensorsFile.Open(files[1]);
        var expected = kind == "SDXL"
            ? new[] { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_q.alpha", "lora_unet_input_blocks_4_0_in_layers_2.alpha", "lora_unet_label_emb_0_2.alpha", "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.alpha" }
            : ["lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q.alpha", "lora_unet_mid_block_resnets_0_conv1.alpha", "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"];
        Assert.All(expected, n => Assert.True(kohya.Contains(n), n));
        Assert.Equal(("3", "1.5", kind switch { "SD1" => "sd_v1", "SD2" => "sd_v2_v", _ => "sdxl_base_v1-0" }), (kohya.Metadata["ss_network_dim"], kohya.Metadata["ss_network_alpha"], kohya.Metadata["ss_base_model_version"]));
        // The hash by which interfaces know a file is that of its data.
        var bytes = File.ReadAllBytes(files[1]);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes.AsSpan(8 + (int)BitConverter.ToInt64(bytes)))), kohya.Metadata["sshs_model_hash"]);
        using var diffusers = SafetensorsFile.Open(files[0]);
        using var peft = JsonDocument.Parse(diffusers.Metadata["lora_adapter_metadata"]);
        Assert.Equal((3, 1.5), (peft.RootElement.GetProperty("unet.r").GetInt32(), peft.RootElement.GetProperty("unet.lora_alpha").GetDouble()));
    }

    [Theory]
    [InlineData(".lora_A.default.weight", ".lora_B.default.weight", "base_model.model.")]
    [InlineData(".lora.down.weight", ".lora.up.weight", "unet.")]
    [InlineData("_lora.down.weight", "_lora.up.weight", "unet.")]
    [InlineData(".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight", "unet.")]
    [InlineData(".lora_A", ".lora_B", "")]
    public void Read_OtherSpellings_AreKnownAndHaveTheRankForAlpha(string down, string up, string prefix)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        const string Module = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
        SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor> { [prefix + Module + down] = ones(2, 16), [prefix + Module + up] = ones(16, 2) });
        using var read = LoraWeights.Read(folder["a"], model);
        Assert.Equal(("unet", Module, 2, 2.0), (read.Layers[0].Component, read.Layers[0].Module, read.Layers[0].Rank, read.Layers[0].Alpha));
    }

    [Fact]
    public void Read_WhatFitsNoLayer_IsNamed()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        const string Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
        Dictionary<string, Tensor> good = new() { [Q + ".lora_down.weight"] = ones(2, 16), [Q + ".lora_up.weight"] = ones(16, 2) };
        Refused("Stable Diffusion 1", ("lora_unet_input_blocks_4_1_proj_in.lora_down.weight", ones(2, 16)));
        Refused("no LoRA", ("conv_in.weight", ones(2, 16)), only: true);
        Refused("another kind", (Q + ".hada_w1_a", ones(2, 2)));
        Refused("another kind", (Q + ".dora_scale", ones(2, 2)));
        Refused("other half", ("lora_unet_mid_block_attentions_0_proj_in.alpha", ones([])));
        Refused("same part", ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", ones(2, 16)));
        Refused("[16, 16]", (Q + ".lora_down.weight", ones(2, 12)));
        Refused("[16, 16]", (Q + ".lora_down.weight", ones([])));
        Refused("one number", (Q + ".alpha", ones(2)));
        Refused("alpha of", (Q + ".alpha", tensor(float.NaN)));

        void Refused(string expected, (string Name, Tensor Value) more, bool only = false)
        {
            var tensors = only ? [] : new Dictionary<string, Tensor>(good);
            tensors[more.Name] = more.Value;
            SafetensorsWriter.Write(folder["a"], tensors);
            Assert.Contains(expected, Assert.Throws<SafetensorsException>(() => LoraWeights.Read(folder["a"], model)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Merge_ForAnotherModel_ChangesNothing()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        using var weights = Adapted(model, out _);
        using var other = TinyModels.Make("SDXL");
        var before = other.Unet.state_dict()["conv_in.weight"].clone();
        Assert.Contains("does not fit", Assert.Throws<ArgumentException>(() => weights.Merge(other)).Message, StringComparison.Ordinal);
        Assert.True(before.Equals(other.Unet.state_dict()["conv_in.weight"]));
        Assert.Throws<ArgumentException>(() => weights.WriteBoth(folder.Path, "fox", other));
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void CopyFrom_FileOfThisTraining_GoesOnFromIt()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        static bool Queries(string name) => name.Contains("to_q", StringComparison.Ordinal);
        using (var trained = new Lora(model.Unet, Queries, 3, 1.5, seed: 1))
            trained.Save(folder["a"]);
        using var read = LoraWeights.Read(folder["a"], model);
        using var lora = new Lora(model.Unet, Queries, 3, 1.5, seed: 2);
        lora.CopyFrom(read.Layers);
        Assert.All(lora.Parameters.Where(p => p.Name.EndsWith("lora_A.weight", StringComparison.Ordinal)), p => Assert.True(p.Value.Equals(read.Layers.First(l => p.Name.StartsWith(l.Module + ".", StringComparison.Ordinal)).Down)));
        using var wider = new Lora(model.TextEncoders[0], _ => true, 4);
        Assert.Contains("rank 3", Assert.Throws<ArgumentException>(() => wider.CopyFrom(read.Layers)).Message, StringComparison.Ordinal);
        using var fewer = new Lora(model.TextEncoders[0], _ => true, 3, 1.5);
        Assert.Contains("no adapter that fits", Assert.Throws<ArgumentException>(() => fewer.CopyFrom(read.Layers)).Message, StringComparison.Ordinal);
    }

    private static LoraWeights Adapted(StableDiffusionModel model, out Dictionary<(string Component, string Name), Tensor> folded)
    {
        folded = [];
        var place = 0u;
        var adapters = new Dictionary<string, Lora>();
        foreach (var (component, network) in new LoraNames(model).Networks)
        {
            var lora = adapters[component] = new Lora(network, _ => true, 3, 1.5, seed: 9);
            using (no_grad())
            {
                foreach (var (_, value) in lora.Parameters)
                    value.copy_(CounterNoise.Normal(new NoiseKey(5, place++), value.shape).mul_(Tenth));
            }

            lora.Fold();
            foreach (var (name, weight) in lora.WeightNames.Zip(lora.Weights))
                folded[(component, name)] = weight.detach().clone();
        }

        var weights = LoraWeights.Of(adapters);
        foreach (var lora in adapters.Values)
            lora.Dispose();
        return weights;
    }
}
