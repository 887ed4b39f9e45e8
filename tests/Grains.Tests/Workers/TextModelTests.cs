using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Loads libtorch before the first touch of TorchSharp.</summary>
internal static class LoadTorch
{
    [System.Runtime.CompilerServices.ModuleInitializer]
    public static void Load() => AdjointDpm.Native.NativeTorch.EnsureLoaded();
}

/// <summary>The engine on whole Stable Diffusion folders: text, latents, picture, loss, gradient, LoRA file.</summary>
public sealed class TextModelTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly GradientEngine _engine = new("cpu:0");

    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    public void Dispose()
    {
        _engine.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Gradient_OfLoraThroughTheDecoder_MatchesADirectionalDifference(string kind)
    {
        var spec = Spec(kind) with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn*to_*"], Rank = 2 } };
        var plan = Plan(spec);
        var theta = Moved(_engine.Prepare(plan, CancellationToken.None).Parameters, 0.05f, null);
        var at = Differentiate(plan, theta);
        Assert.Equal(at.Gradient, Differentiate(plan, theta).Gradient);
        var gradient = MemoryMarshal.Cast<byte, float>(at.Gradient).ToArray();
        var squared = gradient.Sum(g => (double)g * g);
        Assert.True(squared > 0);
        var step = (float)(2e-4 * at.Sums["loss"] / at.Samples / squared);
        var (up, down) = (Moved(theta, step, gradient), Moved(theta, -step, gradient));
        // What fp32 makes of the two ends is what counts, not what was asked for.
        var upper = MemoryMarshal.Cast<byte, float>(up);
        var lower = MemoryMarshal.Cast<byte, float>(down);
        var expected = 0.0;
        for (var i = 0; i < gradient.Length; i++)
            expected += gradient[i] * ((double)upper[i] - lower[i]);
        Assert.Equal(1, (Differentiate(plan, up).Sums["loss"] - Differentiate(plan, down).Sums["loss"]) / at.Samples / expected, 0.005);
    }

    /// <summary>Memory is spared by the spec, and the trial's bits stay; a decoder that takes one sample after the other, or tiles, may round otherwise.</summary>
    [Fact]
    public void Gradient_WithBlocksComputedAgain_HasTheSameBits()
    {
        var spec = Spec("SD1") with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn*to_*"], Rank = 2 } };
        var theta = Moved(_engine.Prepare(Plan(spec), CancellationToken.None).Parameters, 0.05f, null);
        var plain = Differentiate(Plan(spec), theta);
        var again = Differentiate(Plan(spec with { Model = spec.Model with { Checkpointing = true } }), theta);
        Assert.Equal(plain.Gradient, again.Gradient);
        var slices = Differentiate(Plan(spec with { Model = spec.Model with { Checkpointing = true, DecoderSlices = true } }), theta);
        Assert.Equal(plain.Sums["loss"], slices.Sums["loss"], 1e-5);
    }

    /// <summary>The conditioning, all of it or some tokens, and the latents' noise; also through rewards of one's own and CLIP.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Gradient_OfConditionAndNoise_MatchesADirectionalDifference(string kind)
    {
        var whole = Spec(kind) with { Train = new TrainSpec { Target = TrainTarget.Condition } };
        var some = whole with { Train = whole.Train with { Positions = [3, 1] }, Losses = [new LossSpec { Name = LossName.TorchScript, File = Path.Combine(ReferenceFolder.Of("losses"), "reward.pt") }, new LossSpec { Name = LossName.Onnx, File = Path.Combine(ReferenceFolder.Of("losses"), "resnet.onnx"), Column = 1 }, new LossSpec { Name = LossName.TotalVariation, Squared = true }] };
        foreach (var spec in new[] { whole, some, whole with { Train = new TrainSpec { Target = TrainTarget.Noise }, Training = whole.Training with { Shards = 1 } } })
        {
            var plan = Plan(spec);
            var theta = Moved(_engine.Prepare(plan, CancellationToken.None).Parameters, 0.02f, null);
            var at = Differentiate(plan, theta);
            var gradient = MemoryMarshal.Cast<byte, float>(at.Gradient).ToArray();
            var squared = gradient.Sum(g => (double)g * g);
            Assert.True(squared > 0);
            var each = spec.Train.Target == TrainTarget.Noise ? 1 : at.Samples;
            var step = (float)(2e-4 * Math.Abs(at.Sums["loss"]) / each / squared);
            var (up, down) = (Moved(theta, step, gradient), Moved(theta, -step, gradient));
            var upper = MemoryMarshal.Cast<byte, float>(up);
            var lower = MemoryMarshal.Cast<byte, float>(down);
            var expected = 0.0;
            for (var i = 0; i < gradient.Length; i++)
                expected += gradient[i] * ((double)upper[i] - lower[i]);
            Assert.Equal(1, (Differentiate(plan, up).Sums["loss"] - Differentiate(plan, down).Sums["loss"]) / each / expected, 0.005);
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Save_WritesAModelAndLoraFilesThatLoadAsTheSame(string kind)
    {
        var spec = Spec(kind) with { Model = Spec(kind).Model with { Dtype = NumberFormat.Float32 }, Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn*to_*"], Rank = 2, Alpha = 1 } };
        var plan = Plan(spec);
        var start = _engine.Prepare(plan, CancellationToken.None).Parameters;
        File.WriteAllText(_folder["lines"], """{"step":1,"metrics":{"loss":2},"parametersSha256":""}""" + "\n");
        var target = Directory.CreateDirectory(_folder["out"]).FullName;
        _engine.Save(plan, Version(start), Version(Moved(start, 0.05f, null)), _folder["lines"], target, CancellationToken.None);
        using (var sheet = SkiaSharp.SKBitmap.Decode(Path.Combine(target, "after.png")))
            Assert.Equal(100 * 2 + 4, sheet.Width);

        using var tuned = StableDiffusionFolder.Open(Path.Combine(target, "model")).Load();
        foreach (var file in new[] { "pytorch_lora_weights.safetensors", "lora.safetensors" })
        {
            using var plain = StableDiffusionFolder.Open(spec.Model.Path).Load();
            using var lora = LoraWeights.Read(Path.Combine(target, "lora", file), plain);
            Assert.Equal("5", lora.Metadata["ss_seed"]);
            Assert.All(lora.Layers, layer => Assert.Equal((2, 1.0), (layer.Rank, layer.Alpha)));
            lora.Merge(plain);
            TinyModels.AllWeights(plain.Unet, tuned.Unet, (x, y) => x.allclose(y, 1e-5, 1e-6));
        }
    }

    [Fact]
    public void Samples_AreAskedForByPromptsInTurn_AndDoNotDependOnTheirBatch()
    {
        var spec = Spec("SD1") with { Sample = Spec("SD1").Sample with { Prompts = ["a cat", "a red square", "the quick brown fox"] } };
        var plan = Plan(spec);
        var start = Version(_engine.Prepare(plan, CancellationToken.None).Parameters);
        var whole = _engine.Evaluate(plan, start, 0, 6, CancellationToken.None);
        var parts = new[] { (0, 2), (2, 4) }.Select(p => _engine.Evaluate(plan, start, p.Item1, p.Item2, CancellationToken.None)).ToList();
        Assert.Equal(whole.Sums["loss"], parts.Sum(p => p.Sums["loss"]), 1e-9);
        var one = Plan(spec with { Sample = spec.Sample with { Prompts = ["a cat"] } });
        Assert.NotEqual(whole.Sums["loss"], _engine.Evaluate(one, start, 0, 6, CancellationToken.None).Sums["loss"]);
        var negative = Plan(spec with { Sample = spec.Sample with { NegativePrompt = "blurry" } });
        Assert.NotEqual(whole.Sums["loss"], _engine.Evaluate(negative, start, 0, 6, CancellationToken.None).Sums["loss"]);
        var wide = Plan(spec with { Losses = [new LossSpec { Name = LossName.PixelDistance }], Sample = spec.Sample with { Width = 24 } });
        Assert.Equal(0, _engine.Evaluate(wide, start, 0, 1, CancellationToken.None).Sums["loss"], 1e-12);
    }

    [Theory]
    [InlineData(NumberFormat.BFloat16)]
    [InlineData(NumberFormat.Float16)]
    public void HalfPrecision_TrainsAdaptersInFloat32_AndSavesThemUnrounded(NumberFormat format)
    {
        var spec = Spec("SD1") with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn2.to_q*"], Rank = 2 } };
        var half = Plan(spec with { Model = spec.Model with { Dtype = format } });
        var start = _engine.Prepare(half, CancellationToken.None).Parameters;
        var theta = Moved(start, 0.05f, null);
        var (exact, rounded) = (Differentiate(Plan(spec), theta).Gradient, Differentiate(half, theta).Gradient);
        Assert.True(System.Numerics.Tensors.TensorPrimitives.CosineSimilarity<float>(MemoryMarshal.Cast<byte, float>(exact), MemoryMarshal.Cast<byte, float>(rounded)) > 0.99f);
        File.WriteAllText(_folder["lines"], """{"step":1,"metrics":{"loss":2},"parametersSha256":""}""" + "\n");
        var target = Directory.CreateDirectory(_folder["half"]).FullName;
        _engine.Save(half, Version(start), Version(theta), _folder["lines"], target, CancellationToken.None);
        using var tuned = StableDiffusionFolder.Open(Path.Combine(target, "model")).Load();
        using var plain = StableDiffusionFolder.Open(spec.Model.Path).Load();
        using var lora = LoraWeights.Read(Path.Combine(target, "lora", "lora.safetensors"), plain);
        lora.Merge(plain);
        TinyModels.AllWeights(plain.Unet, tuned.Unet, (x, y) => x.allclose(y, 1e-6, 1e-7));
    }

    [Fact]
    public void Spec_ThatDoesNotFitTheModel_IsNamed()
    {
        var spec = Spec("SD1");
        Refused("Set sample.prompts", spec with { Sample = spec.Sample with { Prompts = null } });
        Refused("multiples of 2", spec with { Sample = spec.Sample with { Height = 9 } });
        Refused("2 prompts", spec with { Sample = spec.Sample with { Classes = [1] } });

        void Refused(string expected, ExperimentSpec wrong)
        {
            var start = _engine.Prepare(Plan(spec), CancellationToken.None).Parameters;
            var error = Assert.ThrowsAny<Exception>(() => Differentiate(Plan(wrong), start));
            Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        }
    }

    private ExperimentSpec Spec(string kind)
    {
        var path = _folder[kind];
        if (!Directory.Exists(path))
        {
            using var model = TinyModels.Make(kind);
            StableDiffusionFolder.Save(path, model);
        }

        // Wide enough for the size, unlike any picture that could come out.
        var reference = _folder["reference.png"];
        using (var bitmap = new SkiaSharp.SKBitmap(16, 16))
        {
            bitmap.Erase(SkiaSharp.SKColors.OrangeRed);
            using var file = File.Create(reference);
            bitmap.Encode(file, SkiaSharp.SKEncodedImageFormat.Png, 100);
        }

        return new()
        {
            Model = new ModelSpec { Path = path, Dtype = NumberFormat.Float64 },
            Sample = new SampleSpec { Steps = 2, Guidance = 3, Prompts = ["a photo of a cat", "a red square"], Height = 16, Width = 16 },
            Losses = [new LossSpec { Name = LossName.PixelDistance, Reference = reference }],
            Training = new TrainingSpec { SamplesPerShard = 2, Shards = 2, Seed = 5 },
            Checkpoint = new CheckpointSpec { SheetRows = 1 },
        };
    }

    private static TrialPlan Plan(ExperimentSpec spec) => new(spec, "");

    private ShardGradient Differentiate(TrialPlan plan, byte[] parameters) => _engine.Differentiate(plan, Version(parameters), 0, 0, CancellationToken.None);

    private static byte[] Moved(byte[] from, float by, float[]? along)
    {
        var numbers = MemoryMarshal.Cast<byte, float>(from).ToArray();
        for (var i = 0; i < numbers.Length; i++)
            numbers[i] += by * (along?[i] ?? MathF.Sin(i));
        return MemoryMarshal.AsBytes<float>(numbers).ToArray();
    }

    private static ParameterVersion Version(byte[] bytes) => new(TensorReference.HashOf(bytes), bytes);
}
