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

    /// <summary>What PEFT loads: one folder for each network, alpha in its configuration.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Peft_AfterReading_MergesToTheFoldedWeights(string kind)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        using var weights = Adapted(model, out var folded);
        var files = weights.WritePeft(folder["peft"], model, "org/sd");
        Assert.Equal(2 * new LoraNames(model).Networks.Count, files.Count);
        Assert.All(files, f => Assert.True(File.Exists(f), f));
        using var config = JsonDocument.Parse(File.ReadAllBytes(folder["peft/unet/adapter_config.json"]));
        Assert.Equal(("LORA", 3, 1.5, "org/sd", "UNet2DConditionModel"), (config.RootElement.GetProperty("peft_type").GetString(), config.RootElement.GetProperty("r").GetInt32(), config.RootElement.GetProperty("lora_alpha").GetDouble(),
            config.RootElement.GetProperty("base_model_name_or_path").GetString(), config.RootElement.GetProperty("auto_mapping").GetProperty("base_model_class").GetString()));
        using var read = LoraWeights.Read(folder["peft"], model);
        using var merged = TinyModels.Make(kind);
        read.Merge(merged);
        var networks = new LoraNames(merged).Networks;
        Assert.All(folded, p => Assert.True(p.Value.allclose(networks[p.Key.Component].get_parameter(p.Key.Name)!, 1e-5, 1e-7), p.Key.Name));
        var report = AdjointDpm.Models.Files.ModelFile.Inspect(folder["peft/unet"]);
        Assert.Equal(("PEFT LoRA", "3", "1.5"), (report.Kind, report.Facts.First(f => f.Key == "rank").Value, report.Facts.First(f => f.Key == "alpha").Value));
        // A network's folder alone says by its layers whose it is.
        using var alone = LoraWeights.Read(folder["peft/unet"], model);
        Assert.All(alone.Layers, l => Assert.Equal(("unet", 3, 1.5), (l.Component, l.Rank, l.Alpha)));
    }

    [Theory]
    [InlineData("\"lora_alpha\": 6", 6, 6)]
    [InlineData("\"lora_alpha\": 6, \"alpha_pattern\": {\"to_q\": 10}", 10, 6)]
    [InlineData("\"lora_alpha\": 6, \"alpha_pattern\": {\"mid_block\\\\..*to_[kv]\": 12}", 6, 12)]
    [InlineData("\"lora_alpha\": 6, \"use_rslora\": true", 12, 12)]
    public void Peft_AlphaIsAsItsConfigurationHasIt(string fields, double ofQ, double ofK)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        const string Attention = "mid_block.attentions.0.transformer_blocks.0.attn1.";
        SafetensorsWriter.Write(folder["adapter_model.safetensors"], new[] { "to_q", "to_k" }.SelectMany(n => new[] { ($"base_model.model.{Attention}{n}.lora_A.weight", ones(4, 16)), ($"base_model.model.{Attention}{n}.lora_B.weight", ones(16, 4)) }).ToDictionary(p => p.Item1, p => p.Item2));
        File.WriteAllText(folder["adapter_config.json"], $"{{\"peft_type\": \"LORA\", \"r\": 4, {fields}}}");
        using var read = LoraWeights.Read(folder.Path, model);
        Assert.Equal([ofK, ofQ], read.Layers.OrderBy(l => l.Module, StringComparer.Ordinal).Select(l => l.Alpha));
    }

    [Theory]
    [InlineData("\"peft_type\": \"LOHA\"", "peft_type is LOHA; LORA is read")]
    [InlineData("\"peft_type\": \"LORA\", \"use_dora\": true", "use_dora is true; false is read")]
    [InlineData("\"peft_type\": \"LORA\", \"bias\": \"all\"", "bias is all; none is read")]
    [InlineData("\"peft_type\": \"LORA\", \"modules_to_save\": [\"conv_in\"]", "modules_to_save is")]
    [InlineData("\"peft_type\": \"LORA\", \"init_lora_weights\": \"pissa_niter_4\"", "init_lora_weights is pissa_niter_4")]
    [InlineData("\"peft_type\": \"LORA\", \"r\": \"four\"", "is not what PEFT writes")]
    [InlineData("\"peft_type\": \"LORA\", \"alpha_pattern\": {\"(\": 1}", "alpha_pattern '(' is no regular expression")]
    public void Peft_WhatIsNotComputedHere_IsRefusedByName(string fields, string expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        const string Layer = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
        SafetensorsWriter.Write(folder["adapter_model.safetensors"], new Dictionary<string, Tensor> { [Layer + ".lora_A.weight"] = ones(4, 16), [Layer + ".lora_B.weight"] = ones(16, 4) });
        File.WriteAllText(folder["adapter_config.json"], $"{{{fields}}}");
        Assert.Contains(expected, Assert.Throws<ModelConfigException>(() => LoraWeights.Read(folder.Path, model)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Peft_FolderWithoutItsFiles_SaysWhich()
    {
        using var folder = new TemporaryFolder();
        using var model = TinyModels.Make("SD1");
        Assert.Contains("nor one in unet or text_encoder", Assert.Throws<ModelConfigException>(() => LoraWeights.Read(folder.Path, model)).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["adapter_config.json"], "{\"peft_type\": \"LORA\"}");
        Assert.Throws<SafetensorsException>(() => LoraWeights.Read(folder.Path, model));
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

    /// <summary>diffusers' own header says what PEFT's folder says, by network; scale and patterns are PEFT's.</summary>
    [Theory]
    [InlineData("""{"unet.r":4,"unet.lora_alpha":6}""", 6, 6)]
    [InlineData("""{"unet.r":4,"unet.lora_alpha":6,"unet.use_rslora":true}""", 12, 12)]
    [InlineData("""{"unet.r":4,"unet.lora_alpha":6,"unet.alpha_pattern":{"mid_block\\..*to_[kv]":12}}""", 6, 12)]
    [InlineData("""{"unet.r":4,"unet.lora_alpha":6,"unet.use_rslora":true,"unet.alpha_pattern":{"to_q":1}}""", 2, 12)]
    [InlineData("""{"text_encoder.r":4,"text_encoder.lora_alpha":9}""", 4, 4)]
    public void Diffusers_AlphaIsAsItsHeaderHasIt(string metadata, double ofQ, double ofK)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        SafetensorsWriter.Write(folder["a"], TwoAdapters(), new Dictionary<string, string> { ["lora_adapter_metadata"] = metadata });
        using var read = LoraWeights.Read(folder["a"], model);
        Assert.Equal([ofK, ofQ], read.Layers.OrderBy(l => l.Module, StringComparer.Ordinal).Select(l => l.Alpha));
    }

    [Theory]
    [InlineData("""{"unet.r":4,"unet.use_dora":true}""", "use_dora is true")]
    [InlineData("""{"unet.r":"four"}""", "lora_adapter_metadata is not what PEFT writes")]
    [InlineData("""{""", "lora_adapter_metadata is not what PEFT writes")]
    public void Diffusers_HeaderThatIsNotUnderstood_IsNamed(string metadata, string expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        SafetensorsWriter.Write(folder["a"], TwoAdapters(), new Dictionary<string, string> { ["lora_adapter_metadata"] = metadata });
        Assert.Contains(expected, Assert.ThrowsAny<FormatException>(() => LoraWeights.Read(folder["a"], model)).Message, StringComparison.Ordinal);
    }

    /// <summary>Two adapters at once, with strengths of their own: the sum of what each adds alone, whichever comes or goes, and in the end every bit of before.</summary>
    [Fact]
    public void MergedLoras_AddUp_AndLeaveEveryBitAsItWas()
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SDXL");
        using var one = Adapted(model, out _);
        using var two = new LoraWeightsOfQueries(model);
        var before = Weights(model);
        Dictionary<string, Tensor> alone;
        using (var only = new MergedLoras(model))
        {
            only.Add(two.Weights, 0.5);
            alone = Weights(model);
        }

        AssertSame(before, Weights(model));
        using (var both = new MergedLoras(model))
        {
            Assert.Equal(0, both.Add(one, -2));
            Assert.Equal(1, both.Add(two.Weights, 0.5));
            Assert.Equal(2, both.Count);
            var sum = Weights(model);
            using var merged = TinyModels.Make("SDXL");
            one.Merge(merged, -2);
            two.Weights.Merge(merged, 0.5);
            var expected = Weights(merged);
            Assert.All(sum, p => Assert.True(p.Value.allclose(expected[p.Key], 1e-5, 1e-6), p.Key));
            Assert.Contains(sum, p => !p.Value.allclose(before[p.Key]));
            // Strength 0 is absence, to the bit.
            both.Set(0, 0);
            AssertSame(alone, Weights(model));
        }

        AssertSame(before, Weights(model));
    }

    /// <summary>Adapters in training and merged ones on the same weights: neither undoes the other.</summary>
    [Fact]
    public void Lora_OnWeightsThatOthersAdapt_AddsToThem()
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        using var weights = Adapted(model, out _);
        var before = Weights(model);
        using var merged = new MergedLoras(model);
        merged.Add(weights);
        var without = Weights(model);
        using (var first = Random(1))
        using (var second = Random(2))
        {
            first.Fold();
            second.Fold();
            var name = first.WeightNames[0];
            var (a, b) = (Product(first), Product(second));
            Assert.True(model.Unet.get_parameter(name)!.allclose(without["unet." + name] + a + b, 1e-5, 1e-6));
            // A weight with adapters cannot take one for good: the next change of these would undo it.
            Assert.Contains(nameof(MergedLoras), Assert.Throws<InvalidOperationException>(() => weights.Merge(model)).Message, StringComparison.Ordinal);
            first.Dispose();
            Assert.True(model.Unet.get_parameter(name)!.allclose(without["unet." + name] + b, 1e-5, 1e-6));
        }

        AssertSame(without, Weights(model));
        merged.Dispose();
        AssertSame(before, Weights(model));

        Lora Random(long seed)
        {
            using var frozen = no_grad();
            var lora = new Lora(model.Unet, n => n.Contains("attn2.to_q", StringComparison.Ordinal), 2, 4, (ulong)seed);
            foreach (var (_, value) in lora.Parameters)
                value.copy_(CounterNoise.Normal(new NoiseKey((ulong)seed), value.shape).mul_(Tenth));
            return lora;
        }

        static Tensor Product(Lora lora) => lora.Parameters[1].Value.matmul(lora.Parameters[0].Value).mul(Rooted.Two);
    }

    [Fact]
    public void Read_FolderAsTheCacheHasIt_IsDiffusersFile()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        SafetensorsWriter.Write(folder["pytorch_lora_weights.safetensors"], TwoAdapters());
        using var read = LoraWeights.Read(folder.Path, model);
        Assert.Equal(2, read.Layers.Count);
    }

    private static Dictionary<string, Tensor> TwoAdapters() => new[] { "to_q", "to_k" }
        .SelectMany(n => new[] { ($"unet.mid_block.attentions.0.transformer_blocks.0.attn1.{n}.lora_A.weight", ones(4, 16)), ($"unet.mid_block.attentions.0.transformer_blocks.0.attn1.{n}.lora_B.weight", ones(16, 4)) }).ToDictionary(p => p.Item1, p => p.Item2);

    private static Dictionary<string, Tensor> Weights(StableDiffusionModel model) => new LoraNames(model).Networks.SelectMany(n => n.Value.state_dict().Select(w => ($"{n.Key}.{w.Key}", w.Value.clone()))).ToDictionary(w => w.Item1, w => w.Item2);

    private static void AssertSame(Dictionary<string, Tensor> expected, Dictionary<string, Tensor> actual) => Assert.All(expected, p => Assert.True(p.Value.Equals(actual[p.Key]), p.Key));

    /// <summary>Adapters on the queries alone.</summary>
    private sealed class LoraWeightsOfQueries : IDisposable
    {
        public LoraWeightsOfQueries(StableDiffusionModel model)
        {
            using var frozen = no_grad();
            using var lora = new Lora(model.Unet, n => n.Contains("to_q", StringComparison.Ordinal), 2, 3, seed: 4);
            foreach (var (_, value) in lora.Parameters)
                value.copy_(CounterNoise.Normal(new NoiseKey(8), value.shape).mul_(Tenth));
            Weights = LoraWeights.Of(lora);
        }

        public LoraWeights Weights { get; }

        public void Dispose() => Weights.Dispose();
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
