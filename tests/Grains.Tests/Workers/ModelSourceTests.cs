using System.Runtime.InteropServices;
using AdjointDpm.Formats;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Models as people have them: single files, with LoRA files on them, split weights, half precision.</summary>
public sealed class ModelSourceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly GradientEngine _engine = new("cpu:0");

    public void Dispose()
    {
        _engine.Dispose();
        _folder.Dispose();
    }

    /// <summary>A checkpoint in place of a folder: the same gradient, bit for bit, and what is saved is a folder.</summary>
    [Theory]
    [InlineData("SD1")]
    [InlineData("SDXL")]
    public void Experiment_OnASingleFile_IsThatOnTheFolder(string kind)
    {
        using (var model = TinyModels.Make(kind, wholeVocabulary: true))
        {
            StableDiffusionFolder.Save(_folder["model"], model);
            SingleFileCheckpoint.Save(_folder["model.safetensors"], model);
        }

        var lora = Spec("model") with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn*to_*"], Rank = 2 } };
        var (ofFolder, ofFile) = (lora, lora with { Model = new ModelSpec { Path = _folder["model.safetensors"] } });
        var theta = Moved(Start(ofFolder));
        Assert.Equal(Gradient(ofFolder, theta), Gradient(ofFile, theta));
        var saved = Save(ofFile, theta);
        using var tuned = StableDiffusionFolder.Open(Path.Combine(saved, "model")).Load();
        using var expected = StableDiffusionFolder.Open(Path.Combine(Save(ofFolder, theta), "model")).Load();
        TinyModels.AllWeights(expected.Unet, tuned.Unet, (x, y) => x.Equals(y));
        // What the network predicts is the spec's to say.
        var other = ofFile with { Model = ofFile.Model with { Prediction = PredictionName.Velocity } };
        Assert.NotEqual(Gradient(ofFile, theta), Gradient(other, theta));
        Assert.Contains("model.loras", Assert.Throws<InvalidDataException>(() => _engine.Prepare(new TrialPlan(Digits() with { Model = Digits().Model with { Loras = [new LoraSpec { Path = _folder["model.safetensors"] }] } }, ""), CancellationToken.None)).Message, StringComparison.Ordinal);
    }

    /// <summary>LoRA files of the spec are part of the model: of what is drawn, of its identity, of what is saved, in half precision too.</summary>
    [Theory]
    [InlineData(NumberFormat.Float32)]
    [InlineData(NumberFormat.BFloat16)]
    public void Experiment_WithLoras_StandsOnTheMergedModel(NumberFormat format)
    {
        using var scope = NewDisposeScope();
        var plain = Spec(Made("SD1")) with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn2.to_q*"], Rank = 2 } };
        plain = plain with { Model = plain.Model with { Dtype = format } };
        using (var model = StableDiffusionFolder.Open(plain.Model.Path).Load())
        {
            Adapters(model.Unet, _folder["one.safetensors"], 1);
            Adapters(model.Unet, _folder["two.safetensors"], 2);
            foreach (var (file, weight) in new[] { ("one.safetensors", 0.5), ("two.safetensors", -2.0) })
            {
                using var weights = LoraWeights.Read(_folder[file], model);
                weights.Merge(model, weight);
            }

            StableDiffusionFolder.Save(_folder["merged"], model);
        }

        var with = plain with { Model = plain.Model with { Loras = [new LoraSpec { Path = _folder["one.safetensors"], Weight = 0.5 }, new LoraSpec { Path = _folder["two.safetensors"], Weight = -2 }] } };
        var merged = plain with { Model = plain.Model with { Path = _folder["merged"] } };
        var theta = Moved(Start(plain));
        if (format == NumberFormat.Float32)
            Assert.Equal(Gradient(merged, theta), Gradient(with, theta));
        Assert.NotEqual(Gradient(plain, theta), Gradient(with, theta));
        using (var expected = StableDiffusionFolder.Open(Path.Combine(Save(merged, theta), "model")).Load())
        using (var tuned = StableDiffusionFolder.Open(Path.Combine(Save(with, theta), "model")).Load())
            TinyModels.AllWeights(expected.Unet, tuned.Unet, (x, y) => x.allclose(y, 1e-6, 1e-7));
        var before = Identity(with);
        using (var model = StableDiffusionFolder.Open(plain.Model.Path).Load())
            Adapters(model.Unet, _folder["two.safetensors"], 3);
        Assert.NotEqual(before, Identity(with));
        Assert.NotEqual(Identity(plain), before);
    }

    /// <summary>A LoRA that was trained goes on from where its file is.</summary>
    [Fact]
    public void Train_FromALora_BeginsWithItsNumbers()
    {
        var spec = Spec(Made("SD1")) with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn2.to_q*"], Rank = 2, Alpha = 3 } };
        var theta = Moved(Start(spec));
        var lora = Path.Combine(Save(spec, theta), "lora");
        foreach (var file in new[] { "lora.safetensors", "pytorch_lora_weights.safetensors" })
            Assert.Equal(theta, Start(spec with { Train = spec.Train with { From = Path.Combine(lora, file) } }));
        var other = spec with { Train = spec.Train with { From = Path.Combine(lora, "lora.safetensors"), Rank = 4 } };
        Assert.Contains("rank 2", Assert.Throws<InvalidDataException>(() => Start(other)).Message, StringComparison.Ordinal);
    }

    /// <summary>Whichever files of a network are read, they are in what all hosts must agree on.</summary>
    [Fact]
    public void Identity_OfAPictureModel_IsOfTheWeightsThatAreRead()
    {
        using var network = DiffusersFolder.Open(Digits().Model.Path).LoadUNet2D();
        DiffusersFolder.Save(_folder["digits"], network, DiffusersFolder.Open(Digits().Model.Path).ReadScheduler());
        var spec = Digits() with { Model = new ModelSpec { Path = _folder["digits"] } };
        var unet = Path.Combine(_folder["digits"], "unet");
        var weights = network.state_dict();
        var names = weights.Keys.Order(StringComparer.Ordinal).ToList();
        File.Delete(Path.Combine(unet, "diffusion_pytorch_model.safetensors"));
        var map = new Dictionary<string, string>();
        void Write(int part, float factor)
        {
            using var scope = NewDisposeScope();
            var file = $"diffusion_pytorch_model-0000{part + 1}-of-00002.safetensors";
            var mine = names.Where((_, n) => n % 2 == part).ToList();
            SafetensorsWriter.Write(Path.Combine(unet, file), mine.ToDictionary(n => n, n => weights[n] * factor));
            mine.ForEach(n => map[n] = file);
        }

        Write(0, 1);
        Write(1, 1);
        File.WriteAllText(Path.Combine(unet, "diffusion_pytorch_model.safetensors.index.json"), System.Text.Json.JsonSerializer.Serialize(new { weight_map = map }));
        var before = Identity(spec);
        Write(1, 1.5f);
        Assert.NotEqual(before, Identity(spec));
    }

    /// <summary>Weights trained in half precision are saved as they were trained, in float32, and not as the network has rounded them.</summary>
    [Theory]
    [InlineData(NumberFormat.BFloat16)]
    [InlineData(NumberFormat.Float16)]
    public void Save_OfWeightsInHalfPrecision_KeepsTheirMasters(NumberFormat format)
    {
        foreach (var spec in new[] { Digits() with { Train = new TrainSpec { Include = ["mid_block*"] } }, Spec(Made("SD1")) with { Train = new TrainSpec { Include = ["mid_block*"] } } })
        {
            var half = spec with { Model = spec.Model with { Dtype = format } };
            // Beginnings are float32 as the file has them; what is added is below half precision's last bit.
            var theta = Moved(Start(spec), 1e-5f);
            var saved = Path.Combine(Save(half, theta), "model");
            using var scope = NewDisposeScope();
            var network = File.Exists(Path.Combine(saved, "vae", "config.json")) ? (nn.Module)StableDiffusionFolder.Open(saved).LoadUnet() : DiffusersFolder.Open(saved).LoadUNet2D();
            using var owned = network;
            var trained = network.named_parameters().Where(p => p.name.StartsWith("mid_block", StringComparison.Ordinal)).Select(p => (Tensor)p.parameter).ToList();
            Assert.Equal(theta, TorchBytes.Read(trained));
        }
    }

    private static void Adapters(nn.Module unet, string path, ulong seed)
    {
        using var frozen = no_grad();
        using var lora = new Lora(unet, n => n.Contains("attn", StringComparison.Ordinal) && n.Contains("to_", StringComparison.Ordinal), 2, seed: seed);
        foreach (var (_, value) in lora.Parameters)
            value.copy_(AdjointDpm.Samplers.CounterNoise.Normal(new(seed), value.shape).mul_(0.1f));
        lora.Save(path);
    }

    private string Made(string kind)
    {
        using var model = TinyModels.Make(kind);
        StableDiffusionFolder.Save(_folder[kind], model);
        return kind;
    }

    private ExperimentSpec Spec(string folder) => new()
    {
        Model = new ModelSpec { Path = _folder[folder] },
        Sample = new SampleSpec { Steps = 2, Guidance = 3, Prompts = ["a photo of a cat", "a red square"], Height = 16, Width = 16 },
        Losses = [new LossSpec { Name = LossName.TotalVariation }],
        Training = new TrainingSpec { SamplesPerShard = 2, Shards = 2, Seed = 5 },
        Checkpoint = new CheckpointSpec { SheetRows = 1 },
    };

    private static ExperimentSpec Digits() => new()
    {
        Model = new ModelSpec { Path = Path.Combine(ReferenceFolder.Root(), "examples", "models", "digits8-dpm") },
        Sample = new SampleSpec { Steps = 2 },
        Losses = [new LossSpec { Name = LossName.TotalVariation }],
        Training = new TrainingSpec { SamplesPerShard = 2, Shards = 2, Seed = 5 },
        Checkpoint = new CheckpointSpec { SheetRows = 1 },
    };

    private static string Identity(ExperimentSpec spec)
    {
        using var engine = new GradientEngine("cpu:0");
        return engine.Prepare(new TrialPlan(spec, ""), CancellationToken.None).ModelSha256;
    }

    private byte[] Start(ExperimentSpec spec) => _engine.Prepare(new TrialPlan(spec, ""), CancellationToken.None).Parameters;

    private byte[] Gradient(ExperimentSpec spec, byte[] parameters) => _engine.Differentiate(new TrialPlan(spec, ""), Version(parameters), 0, 0, CancellationToken.None).Gradient;

    private string Save(ExperimentSpec spec, byte[] parameters)
    {
        File.WriteAllText(_folder["lines"], """{"step":1,"metrics":{"loss":2},"parametersSha256":""}""" + "\n");
        var target = Directory.CreateDirectory(_folder[Guid.NewGuid().ToString("n")]).FullName;
        _engine.Save(new TrialPlan(spec, ""), Version(Start(spec)), Version(parameters), _folder["lines"], target, CancellationToken.None);
        return target;
    }

    private static byte[] Moved(byte[] from, float by = 0.05f)
    {
        var numbers = MemoryMarshal.Cast<byte, float>(from).ToArray();
        for (var i = 0; i < numbers.Length; i++)
            numbers[i] += by * MathF.Sin(i);
        return MemoryMarshal.AsBytes<float>(numbers).ToArray();
    }

    private static ParameterVersion Version(byte[] bytes) => new(TensorReference.HashOf(bytes), bytes);
}
