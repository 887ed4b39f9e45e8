using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>The engine on the 8x8 digits: results are a function of spec, parameters, step and shard, and of nothing else.</summary>
public sealed class GradientEngineTests : IDisposable
{
    private static readonly string Models = Find(Path.Combine("examples", "models"));

    private static readonly ExperimentSpec Spec = new()
    {
        Model = new ModelSpec { Path = Path.Combine(Models, "digits8-dpm") },
        Train = new TrainSpec { Include = ["mid_block*"] },
        Sample = new SampleSpec { Steps = 2 },
        Losses = [new LossSpec { Name = LossName.CrossEntropy, Classifier = Path.Combine(Models, "digits8-classifier") }, new LossSpec { Name = LossName.PixelDistance, Weight = 0.5 }],
        HeldOut = new HeldOutSpec { Classifier = Path.Combine(Models, "digits8-classifier-heldout") },
        Training = new TrainingSpec { SamplesPerShard = 3, Shards = 2, Seed = 5 },
    };

    private readonly GradientEngine _engine = new("cpu:0");

    public void Dispose() => _engine.Dispose();

    [Fact]
    public void Differentiate_IsAFunctionOfItsArguments_WhateverWasDoneBefore()
    {
        var plan = Plan(Spec);
        var start = Start(plan);
        var moved = Moved(start);
        var expected = _engine.Differentiate(plan, moved, 3, 1, CancellationToken.None);
        Assert.Equal(3, expected.Samples);
        Assert.Equal(4, expected.Statistics.ForwardNfe + expected.Statistics.BackwardNfe);

        // Another step, another version, another trial, an evaluation; then the same again, here and on a fresh engine.
        _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
        _engine.Evaluate(plan, start, 0, 2, CancellationToken.None);
        var lora = Plan(Spec with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*to_q*"], Rank = 2 } });
        _engine.Differentiate(lora, Start(lora), 0, 0, CancellationToken.None);
        using var fresh = new GradientEngine("cpu:0");
        foreach (var again in new[] { _engine.Differentiate(plan, moved, 3, 1, CancellationToken.None), fresh.Differentiate(plan, moved, 3, 1, CancellationToken.None) })
        {
            Assert.Equal(expected.Gradient, again.Gradient);
            Assert.Equal(expected.Sums, again.Sums);
        }
        Assert.NotEqual(expected.Gradient, _engine.Differentiate(plan, moved, 3, 0, CancellationToken.None).Gradient);
    }

    /// <summary>What a shard takes is known once one was computed alone: the heap is the process's, and beside others nobody can tell whose it is.</summary>
    [Fact]
    public void MemoryOfAShard_IsMeasuredAlone_AndSaidByTheSpecWhereItIsSet()
    {
        // A trial of its own: what is known of one is known to the process.
        var plan = Plan(Spec with { });
        var start = Start(plan);
        using (var empty = new GradientEngine("cpu:0"))
            Assert.Equal(1 << 20, empty.BytesAbove(plan with { Spec = Spec with { Resources = new ResourceSpec { Memory = "1MiB" } } }, isGradient: false));
        Assert.True(_engine.HeldBytes > 1 << 16);
        Assert.Null(_engine.BytesAbove(plan, isGradient: true));
        var alone = _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
        // Other tests compute in this process too.
        for (var i = 0; i < 1000 && alone.Statistics.PeakLiveBytes is null; i++)
            alone = _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
        Assert.Equal(alone.Statistics.PeakLiveBytes, _engine.BytesAbove(plan, isGradient: true));
        Assert.Null(_engine.BytesAbove(plan, isGradient: false));
        Assert.Null(_engine.BytesAbove(plan with { Lean = true }, isGradient: true));
        using (ThreadCount.Enter(Spec.Resources.Threads))
        {
            var beside = _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
            Assert.Null(beside.Statistics.PeakLiveBytes);
            Assert.Equal(alone.Gradient, beside.Gradient);
        }
        Assert.Equal(alone.Statistics.PeakLiveBytes, _engine.BytesAbove(plan, isGradient: true));
        // Another engine has to load the model first, and need not find it out alone.
        using var other = new GradientEngine("cpu:0");
        Assert.Equal(0, other.HeldBytes);
        Assert.True(other.BytesAbove(plan, isGradient: true) > alone.Statistics.PeakLiveBytes + (1 << 16));
    }

    /// <summary>Once one worker of a device knows what a shard takes, the next one begins beside it, its model not yet loaded, and takes nothing from it.</summary>
    [Fact]
    public async Task WorkersOfADevice_ComputeAtOnce_WithTheBitsOfOne()
    {
        var token = TestContext.Current.CancellationToken;
        var plan = Plan(Spec with { Training = Spec.Training with { Seed = 77 } });
        var start = Start(plan);
        using var devices = new DeviceExecutors(new GradientEngineFactory([]), new WorkerOptions { ShardsAtOnce = 2 }, TimeProvider.System);
        var task = new DeviceTask(new("a"), engine => engine.BytesAbove(plan, isGradient: true));
        long? peak = null;
        for (var i = 0; i < 1000 && peak is null; i++)
            peak = (await devices.RunAsync("cpu:0", task, () => Stream.Null, engine => engine.Differentiate(plan, start, 0, 0, token), token)).Statistics.PeakLiveBytes;
        using var both = new Barrier(2);
        var gradients = await Task.WhenAll(new[] { "cpu:0", "cpu:0.1" }.Select(device => devices.RunAsync(
            device,
            task,
            () => Stream.Null,
            engine => (Met: both.SignalAndWait(TimeSpan.FromSeconds(120), token), engine.HeldBytes, engine.Differentiate(plan, start, 0, 0, token).Gradient),
            token)));
        Assert.All(gradients, gradient => Assert.True(gradient.Met));
        Assert.True(gradients[0].HeldBytes > 0);
        Assert.Equal(0, gradients[1].HeldBytes);
        var expected = _engine.Differentiate(plan, start, 0, 0, token).Gradient;
        Assert.All(gradients, gradient => Assert.Equal(expected, gradient.Gradient));
    }

    [Fact]
    public void Draw_IsARowOfTheSheet_AndChangesNoGradient()
    {
        var plan = Plan(Spec with { Checkpoint = new CheckpointSpec { SheetRows = 1, Pictures = 1 } });
        var (start, moved) = (Start(plan), Moved(Start(plan)));
        var expected = _engine.Differentiate(plan, moved, 3, 1, CancellationToken.None).Gradient;
        var row = _engine.Draw(plan, start, CancellationToken.None);
        Assert.Equal(expected, _engine.Differentiate(plan, moved, 3, 1, CancellationToken.None).Gradient);
        Assert.Equal(row, _engine.Draw(plan, start, CancellationToken.None));
        Assert.NotEqual(row, _engine.Draw(plan, moved, CancellationToken.None));

        // What the sheets at the end show of the same parameters.
        var folder = Directory.CreateTempSubdirectory("adjointdpm-draw-").FullName;
        var metrics = Path.Combine(folder, "metrics");
        File.WriteAllText(metrics, "{\"step\":1,\"metrics\":{\"loss\":1},\"parametersSha256\":\"\"}\n");
        _engine.Save(plan, moved, start, metrics, Directory.CreateDirectory(Path.Combine(folder, "results")).FullName, CancellationToken.None);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder, "results", "after.png")), row);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Gradient_MatchesADirectionalDifference_ForWeightsAndLora()
    {
        var precise = Spec with { Model = Spec.Model with { Dtype = NumberFormat.Float64 } };
        foreach (var spec in new[] { precise, precise with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["mid_block*"], Rank = 2 } } })
        {
            var plan = Plan(spec);
            var theta = Moved(Start(plan));
            var at = _engine.Differentiate(plan, theta, 0, 0, CancellationToken.None);
            var gradient = MemoryMarshal.Cast<byte, float>(at.Gradient);
            var squared = 0.0;
            foreach (var g in gradient)
                squared += (double)g * g;
            Assert.True(squared > 0);

            // Central difference along it. What fp32 makes of the two ends is what counts, not what was asked for.
            var step = (float)(2e-3 * at.Sums["loss"] / at.Samples / squared);
            var (up, down) = (Along(+step), Along(-step));
            var expected = 0.0;
            for (var i = 0; i < up.Length; i++)
                expected += gradient[i] * ((double)up[i] - down[i]);
            var rise = (LossAt(up) - LossAt(down)) / at.Samples;
            Assert.Equal(1, rise / expected, 0.005);

            float[] Along(float by)
            {
                var moved = MemoryMarshal.Cast<byte, float>(theta.Bytes.Span).ToArray();
                var along = MemoryMarshal.Cast<byte, float>(at.Gradient);
                for (var i = 0; i < moved.Length; i++)
                    moved[i] += by * along[i];
                return moved;
            }

            double LossAt(float[] numbers) => _engine.Differentiate(plan, Version(numbers), 0, 0, CancellationToken.None).Sums["loss"];
        }
    }

    /// <summary>One sample at a time is the same mean up to rounding, and a function of its arguments too.</summary>
    [Fact]
    public void Lean_IsTheSameGradient_SampleBySample()
    {
        foreach (var method in new[] { GradientName.Discrete, GradientName.StoreAll })
        {
            var plan = Plan(Spec with { Model = Spec.Model with { Dtype = NumberFormat.Float64 }, Gradient = Spec.Gradient with { Method = method } });
            var theta = Moved(Start(plan));
            var whole = _engine.Differentiate(plan, theta, 3, 1, CancellationToken.None);
            var lean = _engine.Differentiate(plan with { Lean = true }, theta, 3, 1, CancellationToken.None);
            Assert.Equal(whole.Samples, lean.Samples);
            Assert.Equal(whole.Sums.Keys, lean.Sums.Keys);
            Assert.All(whole.Sums, sum => Assert.Equal(sum.Value, lean.Sums[sum.Key], 1e-9));
            float[] expected = MemoryMarshal.Cast<byte, float>(whole.Gradient).ToArray(), found = MemoryMarshal.Cast<byte, float>(lean.Gradient).ToArray();
            var longest = expected.Max(Math.Abs);
            Assert.All(expected.Zip(found), pair => Assert.Equal(pair.First, pair.Second, 1e-6f * longest));
            Assert.Equal(3, lean.Statistics.Samples);
            Assert.Equal(lean.Gradient, _engine.Differentiate(plan with { Lean = true }, theta, 3, 1, CancellationToken.None).Gradient);
        }
    }

    [Fact]
    public void Spare_LetsGoOfWhatOtherTrialsNeed_AndOfNothingElse()
    {
        var plan = Plan(Spec);
        var start = Start(plan);
        var expected = _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
        Assert.False(_engine.Spare(plan));
        var other = Plan(Spec with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*to_q*"], Rank = 2 } });
        _engine.Differentiate(other, Start(other), 0, 0, CancellationToken.None);
        Assert.True(_engine.Spare(plan));
        Assert.False(_engine.Spare(plan));
        Assert.Equal(expected.Gradient, _engine.Differentiate(plan, start, 0, 0, CancellationToken.None).Gradient);
        // A network to compare with and a judge that this trial does not name.
        Assert.True(_engine.Spare(Plan(Spec with { Losses = [Spec.Losses[0]], HeldOut = null })));
        Assert.Equal(expected.Gradient, _engine.Differentiate(plan, start, 0, 0, CancellationToken.None).Gradient);
    }

    [Fact]
    public void Evaluate_InPartsOrWhole_CountsTheSame()
    {
        var plan = Plan(Spec);
        var start = Start(plan);
        var whole = _engine.Evaluate(plan, start, 0, 6, CancellationToken.None);
        var parts = new[] { (0, 2), (2, 4) }.Select(p => _engine.Evaluate(plan, start, p.Item1, p.Item2, CancellationToken.None)).ToList();
        Assert.Equal(whole.Sums["accuracy"], parts.Sum(p => p.Sums["accuracy"]));
        Assert.Equal(whole.Sums["loss"], parts.Sum(p => p.Sums["loss"]), 1e-5);
    }

    [Fact]
    public void ChangedModel_IsRefused()
    {
        var error = Assert.Throws<InvalidDataException>(() => _engine.Differentiate(new TrialPlan(Spec, new string('0', 64)), Version([1]), 0, 0, CancellationToken.None));
        Assert.Contains("is not the one the trial began with", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void NothingSelected_SaysWhatThereIs()
    {
        foreach (var target in new[] { TrainTarget.Weights, TrainTarget.Lora })
        {
            var error = Assert.Throws<InvalidDataException>(() => _engine.Prepare(new TrialPlan(Spec with { Train = new TrainSpec { Include = ["nope*"], Target = target } }, ""), CancellationToken.None));
            Assert.Contains("train.include (nope*) selects nothing to train. The model has", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Save_WritesPicturesCurveAndAModelThatLoads()
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-save-").FullName;
        try
        {
            var plan = Plan(Spec);
            var start = Start(plan);
            var metrics = Path.Combine(folder, "lines");
            File.WriteAllText(metrics, """{"step":1,"metrics":{"loss":2},"parametersSha256":""}""" + "\n");
            var target = Directory.CreateDirectory(Path.Combine(folder, "out")).FullName;
            _engine.Save(plan, start, Moved(start), metrics, target, CancellationToken.None);
            using var bitmap = SkiaSharp.SKBitmap.Decode(Path.Combine(target, "before-after.png"));
            Assert.True(bitmap.Width > 900 && bitmap.Height > 800);
            Assert.StartsWith("<svg", File.ReadAllText(Path.Combine(target, "loss.svg")), StringComparison.Ordinal);
            var tuned = Plan(Spec with { Model = new ModelSpec { Path = Path.Combine(target, "model") } });
            Assert.Equal(Moved(start).Bytes.ToArray(), Start(tuned).Bytes.ToArray());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData(SolverName.Ddim, GradientName.Discrete, true)]
    [InlineData(SolverName.DpmSolver2M, GradientName.Checkpointed, true)]
    [InlineData(SolverName.StochasticDpmSolver2M, GradientName.StoreAll, true)]
    [InlineData(SolverName.Bosh3, GradientName.Discrete, true)]
    [InlineData(SolverName.ReversibleHeun, GradientName.Reversible, true)]
    [InlineData(SolverName.Ddim, GradientName.Continuous, false)]
    public void Proof_OfRealNetworks_TellsExactFromApproximate(SolverName solver, GradientName method, bool holds)
    {
        var plan = Plan(Spec with
        {
            // An adaptive sampler as coarse as the others: the proof does not ask how good the sample is.
            Sample = Spec.Sample with { Solver = solver, Steps = 3, Guidance = 2, Rtol = solver == SolverName.Bosh3 ? 0.1 : null, Atol = solver == SolverName.Bosh3 ? 0.1 : null },
            Gradient = new GradientSpec { Method = method, Slots = method == GradientName.Checkpointed ? 2 : null },
        });
        var start = Moved(Start(plan));
        var proof = _engine.Prove(plan, start, CancellationToken.None);
        Assert.True(holds == proof.Passed, string.Join('\n', proof.Findings));
        Assert.Equal(["x_T", "mid_block"], proof.Groups.Select(group => group.Name));
        Assert.Equal(holds, proof.Exact);
        if (holds)
            Assert.All(proof.Groups.Concat(proof.States), row => Assert.InRange(row.RelativeError, 0, 1e-12));
        var difference = Assert.Single(proof.Differences);
        Assert.True(Math.Abs(difference.FiniteDifference - difference.Unrolled) <= 1e-6 * Math.Abs(difference.Unrolled), $"{difference}");
        Assert.Equal(proof.Groups, GradientProofReport.Parse(proof.ToJson()).Groups);

        // A proof between two steps does not show in them.
        var after = _engine.Differentiate(plan, start, 0, 0, CancellationToken.None);
        using var fresh = new GradientEngine("cpu:0");
        Assert.Equal(fresh.Differentiate(plan, start, 0, 0, CancellationToken.None).Gradient, after.Gradient);
    }

    /// <summary>What training does is what is measured, and it is not held to what it does not claim.</summary>
    [Theory]
    [InlineData(GradientName.AlignProp)]
    [InlineData(GradientName.ReFL)]
    [InlineData(GradientName.AdjointMatching)]
    public void Proof_OfAnEstimate_MeasuresTheEstimate(GradientName method)
    {
        var plan = Plan(Spec with
        {
            Sample = Spec.Sample with { Solver = SolverName.Ddpm, Steps = 4 },
            Gradient = new GradientSpec { Method = method, Last = method == GradientName.AdjointMatching ? null : 1, RewardScale = method == GradientName.AdjointMatching ? 1 : null },
        });
        var start = Moved(Start(plan));
        var proof = _engine.Prove(plan, start, CancellationToken.None);
        Assert.Equal((true, false, true, ExperimentSpecJson.NameOf(method)), (proof.IsEstimate, proof.Exact, proof.Passed, proof.Method));
        Assert.Equal(proof.IsEstimate, GradientProofReport.Parse(proof.ToJson()).IsEstimate);
        Assert.Empty(proof.States);
        var weights = Assert.Single(proof.Groups);
        Assert.Equal("mid_block", weights.Name);
        Assert.InRange(weights.Cosine, -1, 0.9999);
        Assert.True(weights.NormRatio > 0);
        var summary = proof.Summary();
        Assert.True(summary is { IsEstimate: true, Passed: true });

        var exact = _engine.Prove(plan with { Spec = plan.Spec with { Gradient = new GradientSpec() } }, start, CancellationToken.None);
        Assert.True(exact is { IsEstimate: false, Exact: true, Passed: true });
        Assert.NotEqual(exact.Groups[^1].NormRatio, weights.NormRatio);
    }

    private TrialPlan Plan(ExperimentSpec spec) => new(spec, _engine.Prepare(new TrialPlan(spec, ""), CancellationToken.None).ModelSha256);

    private ParameterVersion Start(TrialPlan plan)
    {
        var bytes = _engine.Prepare(plan, CancellationToken.None).Parameters;
        return new ParameterVersion(TensorReference.HashOf(bytes), bytes);
    }

    private static ParameterVersion Moved(ParameterVersion from)
    {
        var numbers = MemoryMarshal.Cast<byte, float>(from.Bytes.Span).ToArray();
        for (var i = 0; i < numbers.Length; i++)
            numbers[i] += 0.02f * MathF.Sin(i);
        return Version(numbers);
    }

    private static ParameterVersion Version(float[] numbers)
    {
        var bytes = MemoryMarshal.AsBytes<float>(numbers).ToArray();
        return new ParameterVersion(TensorReference.HashOf(bytes), bytes);
    }

    private static string Find(string relative)
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (Directory.Exists(Path.Combine(folder.FullName, relative)))
                return Path.Combine(folder.FullName, relative);
        throw new DirectoryNotFoundException($"No '{relative}' above '{AppContext.BaseDirectory}'.");
    }
}
