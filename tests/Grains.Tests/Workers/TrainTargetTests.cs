using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>The engine where something else than weights is trained: noise, conditioning, nothing; and the estimators of rewards.</summary>
public sealed class TrainTargetTests : IDisposable
{
    private static readonly string Models = Path.Combine(ReferenceFolder.Root(), "examples", "models");

    private static readonly ExperimentSpec Spec = new()
    {
        Model = new ModelSpec { Path = Path.Combine(Models, "digits8-dpm"), Dtype = NumberFormat.Float64 },
        Sample = new SampleSpec { Steps = 3 },
        Losses = [new LossSpec { Name = LossName.CrossEntropy, Classifier = Path.Combine(Models, "digits8-classifier") }],
        HeldOut = new HeldOutSpec { Classifier = Path.Combine(Models, "digits8-classifier-heldout") },
        Training = new TrainingSpec { SamplesPerShard = 4, Shards = 2, Seed = 5 },
        Checkpoint = new CheckpointSpec { SheetRows = 1 },
    };

    private static readonly ExperimentSpec Noise = Spec with { Train = new TrainSpec { Target = TrainTarget.Noise } };

    private readonly GradientEngine _engine = new("cpu:0");

    public void Dispose() => _engine.Dispose();

    public static TheoryData<string> Trained => ["noise", "noise with its length", "condition", "one row"];

    [Theory]
    [MemberData(nameof(Trained))]
    public void Gradient_MatchesADirectionalDifference(string what)
    {
        var spec = what switch
        {
            "noise" => Noise,
            "noise with its length" => Noise with { Losses = [.. Noise.Losses, new LossSpec { Name = LossName.NoiseNorm, Weight = 0.01, Squared = true }] },
            "condition" => Spec with { Train = new TrainSpec { Target = TrainTarget.Condition }, Sample = Spec.Sample with { Guidance = 1.5 } },
            _ => Spec with { Train = new TrainSpec { Target = TrainTarget.Condition, Positions = [2] } },
        };
        var plan = Plan(spec);
        var theta = Moved(Start(plan), 0.05f, null);
        var whole = Enumerable.Range(0, spec.Training.Shards).Select(shard => Differentiate(plan, theta, shard)).ToArray();
        // The coordinator's mean over the shards. Of noise it is the gradient of the sum over all samples, each with its own.
        var gradient = Numbers(whole[0].Gradient).Zip(Numbers(whole[1].Gradient), (a, b) => (a + b) / 2).ToArray();
        var each = spec.Train.Target == TrainTarget.Noise ? 1.0 : whole.Sum(shard => shard.Samples);
        var squared = gradient.Sum(g => (double)g * g);
        Assert.True(squared > 0);
        var step = (float)(2e-3 * whole.Sum(shard => shard.Sums["loss"]) / each / squared);
        var (up, down) = (Moved(theta, step, gradient), Moved(theta, -step, gradient));
        var expected = gradient.Zip(Numbers(up).Zip(Numbers(down), (a, b) => (double)a - b), (g, d) => g * d).Sum();
        Assert.Equal(1, (Total(up) - Total(down)) / each / expected, 0.005);

        double Total(byte[] at) => Enumerable.Range(0, spec.Training.Shards).Sum(shard => Differentiate(plan, at, shard).Sums["loss"]);
    }

    [Fact]
    public void Noise_OfAShard_MovesByItsOwnSamplesAlone_AndOneByOneTheSame()
    {
        var plan = Plan(Noise);
        var theta = Moved(Start(plan), 0.05f, null);
        var (first, second) = (Numbers(Differentiate(plan, theta, 0).Gradient), Numbers(Differentiate(plan, theta, 1).Gradient));
        Assert.Equal(2 * 4 * 64, first.Length);
        Assert.All(first[256..], g => Assert.Equal(0, g));
        Assert.All(second[..256], g => Assert.Equal(0, g));
        // The samples are the same at every step.
        Assert.Equal(first, Numbers(_engine.Differentiate(plan, Version(theta), 7, 0, CancellationToken.None).Gradient));
        var lean = Numbers(Differentiate(plan with { Lean = true }, theta, 0).Gradient);
        var longest = first.Max(Math.Abs);
        Assert.All(first.Zip(lean), pair => Assert.Equal(pair.First, pair.Second, 1e-5f * longest));
    }

    [Theory]
    [InlineData(NoiseBoxNorm.Linf)]
    [InlineData(NoiseBoxNorm.L2)]
    public void Restarts_BeginInTheBox_AndCountANoiseOnce(NoiseBoxNorm norm)
    {
        var spec = Noise with
        {
            Train = new TrainSpec { Target = TrainTarget.Noise, Noise = new NoiseTrainSpec { Box = new NoiseBoxSpec { Norm = norm, Radius = 0.3, Restarts = 2 } } },
            Losses = [Noise.Losses[0] with { Name = LossName.LogProbability, Goal = AuditGoalName.Untargeted }],
        };
        var plan = Plan(spec);
        var start = Numbers(Start(plan));
        for (var noise = 0; noise < 4; noise++)
        {
            var own = start.AsSpan(noise * 128, 64);
            var other = start.AsSpan(noise * 128 + 64, 64);
            var (most, squares) = (0.0, 0.0);
            for (var i = 0; i < 64; i++)
                (most, squares) = (Math.Max(most, Math.Abs(other[i] - own[i])), squares + Math.Pow(other[i] - own[i], 2));
            Assert.InRange(norm == NoiseBoxNorm.Linf ? most : Math.Sqrt(squares), 0.2, 0.3 + 1e-6);
        }

        // Two noises a shard. One of the starts of the first is far away: whatever it shows, the noise counts once.
        var theta = (float[])start.Clone();
        for (var i = 64; i < 128; i++)
            theta[i] = -theta[i] * 2;
        var sums = _engine.Evaluate(plan, Version(MemoryMarshal.AsBytes<float>(theta).ToArray()), 0, 4, CancellationToken.None).Sums;
        Assert.Equal(0, sums["audit.eligible"] % 2);
        Assert.Equal(0, sums["audit.success"] % 2);
        Assert.True(sums["audit.success"] <= sums["audit.eligible"]);
        Assert.InRange(sums["audit.recognised"], 0, sums["audit.success"]);
        Assert.Equal(0, sums["audit.random"] % 2);
        Assert.InRange(sums["audit.random"], 0, sums["audit.eligible"]);
        Assert.True(sums["noise.l2"] > 1);
        Assert.Equal(sums.Keys.Order(), _engine.Evaluate(plan, Version(Start(plan)), 4, 4, CancellationToken.None).Sums.Keys.Order());
    }

    /// <summary>An attack that is after a label is recognised when the sample still is what it was asked to be, not when the other classifier falls for it, too.</summary>
    [Fact]
    public void TargetedAttack_Recognised_IsOfTheClassThatWasAskedFor()
    {
        ExperimentSpec Attack(int goal, int? label) => Noise with
        {
            Train = new TrainSpec { Target = TrainTarget.Noise, Noise = new NoiseTrainSpec { Box = new NoiseBoxSpec { Norm = NoiseBoxNorm.Linf, Radius = 3 } } },
            Sample = Noise.Sample with { Classes = [5] },
            Losses = [Noise.Losses[0] with { Name = LossName.LogProbability, Label = goal }],
            HeldOut = Noise.HeldOut! with { Label = label },
        };
        var differing = 0;
        // What the other classifier makes of a picture that fools the first is not known beforehand: one of these goals it falls for as well, or sees the digit still.
        foreach (var goal in new[] { 3, 8, 6, 9, 0 })
        {
            var plan = Plan(Attack(goal, null));
            var theta = Start(plan);
            for (var step = 0; step < 12; step++)
                theta = Moved(theta, -0.25f, [.. Numbers(Differentiate(plan, theta, 0).Gradient).Select(g => (float)Math.Sign(g))]);
            Dictionary<string, double> Sums(int? label) => new(_engine.Evaluate(Plan(Attack(goal, label)), Version(theta), 0, 4, CancellationToken.None).Sums);
            var (own, asked, sought) = (Sums(null), Sums(5), Sums(goal));
            Assert.True(own["audit.success"] >= 1, $"{goal}: {own["audit.success"]}");
            Assert.Equal(asked["audit.recognised"], own["audit.recognised"]);
            Assert.Equal(own["audit.success"], own["audit.met"]);
            differing += sought["audit.recognised"].Equals(own["audit.recognised"]) ? 0 : 1;
        }
        Assert.InRange(differing, 1, 5);
    }

    [Theory]
    [InlineData(NoiseBoxNorm.Linf)]
    [InlineData(NoiseBoxNorm.L2)]
    public void Blind_IsAsLongAsTheMoves_AndKnowsNothingOfThem(NoiseBoxNorm norm)
    {
        using var scope = TorchSharp.torch.NewDisposeScope();
        var spec = Noise with { Train = new TrainSpec { Target = TrainTarget.Noise, Noise = new NoiseTrainSpec { Box = new NoiseBoxSpec { Norm = norm, Radius = 1 } } } };
        using var part = new NoisePart(spec, [1, 1, 8, 8], TorchSharp.torch.ScalarType.Float64, TorchSharp.torch.CPU);
        // All of the length in one value.
        var moves = TorchSharp.torch.zeros(4, 1, 8, 8, dtype: TorchSharp.torch.ScalarType.Float64);
        moves[TorchSharp.torch.TensorIndex.Colon, 0, 2, 3] = 0.7;
        var blind = part.Blind(moves, 1, 0);
        if (norm == NoiseBoxNorm.Linf)
        {
            Assert.Equal(moves.data<double>().ToArray(), blind.abs().data<double>().ToArray());
            return;
        }
        Assert.All(blind.flatten(1).norm(1).data<double>().ToArray(), length => Assert.Equal(0.7, length, 1e-12));
        // Spread over the whole noise, and another one for each sample.
        Assert.True(blind.abs().max().item<double>() < 0.4);
        Assert.True(blind[0].sub(blind[1]).norm().item<double>() > 0.5);
        Assert.Equal(blind[3].data<double>().ToArray(), part.Blind(moves.narrow(0, 3, 1), 1, 3)[0].data<double>().ToArray());
    }

    [Fact]
    public void Condition_MovesOnlyTheRowsThatAreNamed()
    {
        var plan = Plan(Spec with { Train = new TrainSpec { Target = TrainTarget.Condition, Positions = [2] }, Sample = Spec.Sample with { Classes = [2] } });
        var other = Plan(plan.Spec with { Sample = plan.Spec.Sample with { Classes = [3] } });
        var start = Start(plan);
        var moved = Moved(start, 0.5f, null);
        Assert.NotEqual(Differentiate(plan, start, 0).Sums["loss"], Differentiate(plan, moved, 0).Sums["loss"]);
        Assert.Equal(Differentiate(other, start, 0).Sums["loss"], Differentiate(other, moved, 0).Sums["loss"]);
        Assert.All(Numbers(Differentiate(other, start, 0).Gradient), g => Assert.Equal(0, g));
        var error = Assert.Throws<InvalidDataException>(() => Start(Plan(plan.Spec with { Train = plan.Spec.Train with { Positions = [11] } })));
        Assert.Equal("train.positions holds 11, but the conditioning has 11 rows, counted from 0.", error.Message);
    }

    [Fact]
    public void FixedNoise_IsTheSameAtEveryStep_AndEvaluated()
    {
        var plan = Plan(Spec with { Train = new TrainSpec { Include = ["mid_block*"] }, Training = Spec.Training with { FixedNoise = true } });
        var start = Start(plan);
        var at = Differentiate(plan, start, 1);
        Assert.Equal(at.Sums["loss"], _engine.Differentiate(plan, Version(start), 9, 1, CancellationToken.None).Sums["loss"]);
        Assert.Equal(at.Sums["loss"], _engine.Evaluate(plan, Version(start), 4, 4, CancellationToken.None).Sums["loss"]);
    }

    [Fact]
    public void LookAhead_LowersTheLoss_WithoutTraining()
    {
        var plan = Plan(Spec with { Train = new TrainSpec { Target = TrainTarget.None }, Sample = new SampleSpec { Steps = 8, Classes = [10], LookAhead = new LookAheadSpec { Steps = 2, Strength = 0.5 } }, Losses = [Spec.Losses[0] with { Label = 3 }], HeldOut = Spec.HeldOut! with { Label = 3 } });
        var nothing = Start(plan);
        Assert.Equal([0, 0, 0, 0], nothing);
        var (before, after) = (_engine.Evaluate(plan, Version(nothing), 0, 4, CancellationToken.None), _engine.Evaluate(plan with { Guided = true }, Version(nothing), 0, 4, CancellationToken.None));
        Assert.True(after.Sums["loss"] < 0.5 * before.Sums["loss"], $"{before.Sums["loss"]} {after.Sums["loss"]}");
        Assert.True(after.Statistics.Vjps > 0);
        // Samples do not influence each other.
        Assert.Equal(after.Sums["loss"], Enumerable.Range(0, 4).Sum(i => _engine.Evaluate(plan with { Guided = true }, Version(nothing), i, 1, CancellationToken.None).Sums["loss"]), 1e-6);
    }

    /// <summary>Each estimator against its own definition.</summary>
    [Fact]
    public void Estimators_AreFunctionsOfTheirArguments_AndWhatTheyAreSaidToBe()
    {
        var lora = Spec with { Train = new TrainSpec { Include = ["mid_block*"] }, Sample = Spec.Sample with { Solver = SolverName.Ddpm, Steps = 4 } };
        var truncated = Enumerable.Range(1, 4).Select(k => Gradient(new GradientSpec { Method = GradientName.Truncated, Last = k })).ToArray();

        // AlignProp is truncated back-propagation of some length, which differs between shards.
        var lengths = Enumerable.Range(0, 8).Select(shard => Length(shard)).ToArray();
        Assert.True(lengths.Distinct().Count() > 1, string.Join(' ', lengths));
        Assert.All(lengths, length => Assert.InRange(length, 1, 4));
        Assert.Equal(truncated[0], Gradient(new GradientSpec { Method = GradientName.AlignProp, Last = 1 }));

        // ReFL from the last of one step is the gradient of the sampler's last step, up to the noise that it draws: DDIM has none.
        var ddim = lora with { Sample = lora.Sample with { Solver = SolverName.Ddim } };
        var last = Of(ddim with { Gradient = new GradientSpec { Method = GradientName.Truncated, Last = 1 } }, 0);
        var direct = Of(ddim with { Gradient = new GradientSpec { Method = GradientName.ReFL, Last = 1 } }, 0);
        var longest = last.Max(Math.Abs);
        Assert.True(longest > 0);
        Assert.All(last.Zip(direct), pair => Assert.Equal(pair.First, pair.Second, 1e-5f * longest));
        Assert.NotEqual(last, Of(ddim with { Gradient = new GradientSpec { Method = GradientName.ReFL, Last = 4 } }, 1));

        // Where nothing is trained yet the matching loss has the gradient of the reward along the path.
        var exact = Gradient(new GradientSpec { Method = GradientName.Discrete });
        var matched = Gradient(new GradientSpec { Method = GradientName.AdjointMatching });
        var size = exact.Max(Math.Abs);
        Assert.All(exact.Zip(matched), pair => Assert.Equal(pair.First, pair.Second, 1e-4f * size));

        int Length(int shard)
        {
            var many = lora with { Training = lora.Training with { Shards = 8 } };
            var drawn = Of(many with { Gradient = new GradientSpec { Method = GradientName.AlignProp } }, shard);
            Assert.Equal(drawn, Of(many with { Gradient = new GradientSpec { Method = GradientName.AlignProp } }, shard));
            return 1 + Enumerable.Range(0, 4).First(k => Of(many with { Gradient = new GradientSpec { Method = GradientName.Truncated, Last = k + 1 } }, shard).SequenceEqual(drawn));
        }

        float[] Gradient(GradientSpec gradient) => Of(lora with { Gradient = gradient }, 0);

        float[] Of(ExperimentSpec spec, int shard)
        {
            var plan = Plan(spec);
            return Numbers(Differentiate(plan, Start(plan), shard).Gradient);
        }
    }

    /// <summary>Every loss a spec may name, on pictures of a real sampler: computed, differentiated and recorded by its name.</summary>
    [Fact]
    public async Task EveryLoss_IsBuiltFromASpec()
    {
        using var folder = new AdjointDpm.Tests.Formats.TemporaryFolder();
        var judge = Path.Combine(Models, "digits8-classifier");
        var vision = ReferenceFolder.Of("clip_vision");
        var head = folder["head.safetensors"];
        using (var scope = TorchSharp.torch.NewDisposeScope())
            AdjointDpm.Formats.SafetensorsWriter.Write(head, new Dictionary<string, TorchSharp.torch.Tensor> { ["weight"] = TorchSharp.torch.ones(10) });
        var reference = folder["reference.png"];
        using (var bitmap = new SkiaSharp.SKBitmap(8, 8))
        {
            bitmap.Erase(SkiaSharp.SKColors.Gray);
            await using var file = File.Create(reference);
            bitmap.Encode(file, SkiaSharp.SKEncodedImageFormat.Png, 100);
        }
        await using var sidecar = new RewardSidecarTests.Listening();
        LossSpec[] named =
        [
            new() { Name = LossName.GramStyle, Classifier = judge, Reference = reference },
            new() { Name = LossName.CrossEntropy, Classifier = judge },
            new() { Name = LossName.PixelDistance, Reference = reference },
            new() { Name = LossName.LogProbability, Classifier = judge, Label = 2, Goal = AuditGoalName.Untargeted },
            new() { Name = LossName.Margin, Classifier = judge, Confidence = 3 },
            new() { Name = LossName.Content, Classifier = judge },
            new() { Name = LossName.Perceptual, Classifier = judge, Reference = reference },
            new() { Name = LossName.GaussianDivergence, Deviation = 0.5 },
            new() { Name = LossName.TotalVariation },
            new() { Name = LossName.NoiseNorm },
            new() { Name = LossName.ClipSimilarity, Clip = vision, Reference = reference, Cutouts = 2 },
            new() { Name = LossName.ClipGram, Clip = vision, Reference = reference, Layer = 1, Distance = GramDistanceName.Norm },
            new() { Name = LossName.Aesthetic, Clip = vision, File = head, Target = 3 },
            new() { Name = LossName.Sidecar, Addresses = [sidecar.Address], Range = PixelRangeName.Unit },
        ];
        Assert.Equal(Enum.GetValues<LossName>().Except([LossName.TorchScript, LossName.Onnx, LossName.Custom]), named.Select(loss => loss.Name).Order());
        var plan = Plan(Noise with { Losses = named, Sample = Noise.Sample with { Steps = 2 }, Model = Noise.Model with { Dtype = NumberFormat.Float32 }, Training = Noise.Training with { SamplesPerShard = 2 } });
        var at = Differentiate(plan, Moved(Start(plan), 0.1f, null), 0);
        Assert.Equal(["aesthetic", "clipGram", "clipSimilarity", "content", "crossEntropy", "gaussianDivergence", "gramStyle", "logProbability", "loss", "margin", "noiseNorm", "perceptual", "pixelDistance", "sidecar", "totalVariation"], at.Sums.Keys.Order());
        Assert.All(at.Sums.Values, sum => Assert.True(double.IsFinite(sum)));
        Assert.Equal(named.Length, at.Sums.Keys.Count(key => key != "loss" && at.Sums[key] != 0));
        Assert.Contains(Numbers(at.Gradient), g => g != 0);
        // Once with a gradient, once for the sum.
        Assert.Equal(2, sidecar.Asked);
    }

    [Fact]
    public void ClipSimilarity_OfATextTower_AsksForItsText()
    {
        using var folder = new AdjointDpm.Tests.Formats.TemporaryFolder();
        var (vision, words, tower) = (ReferenceFolder.Of("clip_vision"), ReferenceFolder.Of("clip_tokenizer"), folder["tower"]);
        var tokenizer = AdjointDpm.Models.Clip.ClipTokenizer.Load(words);
        var config = new AdjointDpm.Models.Clip.ClipTextConfig
        {
            Architectures = ["CLIPTextModelWithProjection"], VocabSize = tokenizer.VocabularySize, HiddenSize = 12, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 3,
            MaxPositionEmbeddings = tokenizer.Length, ProjectionDim = 10, EosTokenId = tokenizer.End, BosTokenId = tokenizer.Begin,
        };
        TorchSharp.torch.manual_seed(3);
        using (var model = new AdjointDpm.Models.Clip.ClipTextModel(config))
            AdjointDpm.Formats.ModuleWeights.Save(model, Path.Combine(tower, "model.safetensors"));
        config.Write(Path.Combine(tower, "config.json"));
        tokenizer.Save(tower);

        var losses = new[] { "a red square", "a photo of a cat" }.Select(text =>
        {
            var plan = Plan(Spec with { Train = new TrainSpec { Include = ["mid_block*"] }, Losses = [new LossSpec { Name = LossName.ClipSimilarity, Clip = vision, ClipText = tower, Text = text }], Sample = Spec.Sample with { Classes = [1] } });
            var at = Differentiate(plan, Start(plan), 0);
            Assert.Contains(Numbers(at.Gradient), g => g != 0);
            return at.Sums["clipSimilarity"] / at.Samples;
        }).ToArray();
        Assert.All(losses, loss => Assert.InRange(loss, 0, 2));
        Assert.NotEqual(losses[0], losses[1]);
    }

    [Fact]
    public void CheckRewards_FindsLossesOfASpecFit_AndFilesThatAreNot()
    {
        var fit = RewardChecks.Run(new AdjointDpm.Grains.Tools.CheckRewardRequest { SpecJson = ExperimentSpecJson.Serialize(Noise with { Losses = [Noise.Losses[0], new LossSpec { Name = LossName.NoiseNorm }] }) }, cancellationToken: TestContext.Current.CancellationToken);
        // That of x_T is no reward.
        Assert.Equal(["losses[0] cross-entropy"], fit.Select(reward => reward.Name));
        Assert.All(fit, reward => Assert.Empty(reward.Problems));
        Assert.All(fit, reward => Assert.True(reward is { Deterministic: true, Precision: "float64", Slopes.Count: > 2 }));

        var cut = Assert.Single(RewardChecks.Run(new AdjointDpm.Grains.Tools.CheckRewardRequest { File = Path.Combine(ReferenceFolder.Of("losses"), "cut.pt"), Shape = [3, 10, 10] }, cancellationToken: TestContext.Current.CancellationToken));
        Assert.Contains("without a gradient with respect to the picture. Write it with differentiable operations: as a C# class derived from SampleLoss, as a TorchScript file", Assert.Single(cut.Problems), StringComparison.Ordinal);
        var coupled = Assert.Single(RewardChecks.Run(new AdjointDpm.Grains.Tools.CheckRewardRequest { File = Path.Combine(ReferenceFolder.Of("losses"), "coupled.pt"), Shape = [3, 10, 10] }, cancellationToken: TestContext.Current.CancellationToken));
        Assert.Contains(coupled.Problems, problem => problem.Contains("depends on the other samples", StringComparison.Ordinal));
        var error = Assert.Throws<ArgumentException>(() => RewardChecks.Run(new AdjointDpm.Grains.Tools.CheckRewardRequest { File = "/a/b.ckpt" }, cancellationToken: TestContext.Current.CancellationToken));
        Assert.Contains("is no reward that can be tested alone", error.Message, StringComparison.Ordinal);
    }

    private static TrialPlan Plan(ExperimentSpec spec) => new(spec, "");

    private byte[] Start(TrialPlan plan) => _engine.Prepare(plan, CancellationToken.None).Parameters;

    private ShardGradient Differentiate(TrialPlan plan, byte[] parameters, int shard) => _engine.Differentiate(plan, Version(parameters), 0, shard, CancellationToken.None);

    private static float[] Numbers(byte[] bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    private static byte[] Moved(byte[] from, float by, float[]? along)
    {
        var numbers = Numbers(from);
        for (var i = 0; i < numbers.Length; i++)
            numbers[i] += by * (along?[i] ?? MathF.Sin(i));
        return MemoryMarshal.AsBytes<float>(numbers).ToArray();
    }

    private static ParameterVersion Version(byte[] bytes) => new(TensorReference.HashOf(bytes), bytes);
}
