using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>What is measured of held-out samples beside the losses that are trained on.</summary>
public sealed class HeldOutTests : IDisposable
{
    private static readonly string Models = Path.Combine(ReferenceFolder.Root(), "examples", "models");
    private static readonly string Judge = Path.Combine(Models, "digits8-classifier-heldout");

    private static readonly ExperimentSpec Spec = new()
    {
        Model = new ModelSpec { Path = Path.Combine(Models, "digits8-dpm"), Dtype = NumberFormat.Float64 },
        Train = new TrainSpec { Include = ["mid_block*"] },
        Sample = new SampleSpec { Steps = 3, Classes = [1, 2] },
        Losses = [new LossSpec { Name = LossName.CrossEntropy, Classifier = Path.Combine(Models, "digits8-classifier") }],
        HeldOut = new HeldOutSpec
        {
            Classifier = Judge, Diversity = true, Distance = true,
            Losses = [new LossSpec { Name = LossName.CrossEntropy, Classifier = Judge }, new LossSpec { Name = LossName.TotalVariation, Weight = 0.5 }],
        },
        Training = new TrainingSpec { SamplesPerShard = 4, Shards = 1, Seed = 5 },
    };

    private readonly GradientEngine _engine = new("cpu:0");

    public void Dispose() => _engine.Dispose();

    [Fact]
    public void Evaluate_MeasuresWhatIsAskedFor_AndTheBaseModelIsAtDistanceZero()
    {
        var start = Start(Spec);
        var before = Evaluate(Spec, start);
        Assert.Equal(HeldOutMetrics.Of(Spec).Order(), before.Keys.Order());
        Assert.Equal(0, before["distance"]);
        Assert.True(before["diversity"] / 4 is > 0.1 and < 2, $"{before["diversity"]}");
        Assert.Equal(before["losses.crossEntropy"] + (0.5 * before["losses.totalVariation"]), before["losses.sum"], 1e-9);
        // Another classifier says otherwise.
        Assert.NotEqual(before["crossEntropy"], before["losses.crossEntropy"]);

        var moved = start.ToArray();
        for (var i = 0; i < moved.Length; i++)
            moved[i] += 0.02f * MathF.Sin(i);
        Assert.True(Evaluate(Spec, moved)["distance"] > 0);
    }

    [Fact]
    public void Diversity_IsOfSamplesOfOneClass_WhereThereAreSuch()
    {
        var alike = Spec with { HeldOut = new HeldOutSpec { Diversity = true } };
        var start = Start(alike);
        // Classes in turn: of four samples two are of one class. Of two none is, and both are compared.
        var (within, among) = (Evaluate(alike, start)["diversity"] / 4, Evaluate(alike, start, 2)["diversity"] / 2);
        Assert.True(within < among, $"{within} {among}");
        Assert.DoesNotContain("accuracy", Evaluate(alike, start).Keys);
    }

    [Fact]
    public void Noise_HasItsDistanceFromTheNoiseItBeganWith()
    {
        var spec = Spec with { Train = new TrainSpec { Target = TrainTarget.Noise } };
        var start = Start(spec);
        Assert.Equal(0, Evaluate(spec, start)["distance"], 1e-12);
        Assert.True(Evaluate(spec, [.. start.Select(value => value * 1.2f)])["distance"] > 0);
    }

    private float[] Start(ExperimentSpec spec) => MemoryMarshal.Cast<byte, float>(_engine.Prepare(new TrialPlan(spec, ""), CancellationToken.None).Parameters).ToArray();

    private IReadOnlyDictionary<string, double> Evaluate(ExperimentSpec spec, float[] parameters, int samples = 4)
    {
        var bytes = MemoryMarshal.AsBytes<float>(parameters).ToArray();
        return _engine.Evaluate(new TrialPlan(spec, ""), new ParameterVersion(TensorReference.HashOf(bytes), bytes), 0, samples, CancellationToken.None).Sums;
    }
}
