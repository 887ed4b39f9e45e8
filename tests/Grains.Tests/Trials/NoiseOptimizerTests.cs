using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Trials;

/// <summary>Steps of initial noise against what they are by definition: 4 samples of 5 numbers.</summary>
public sealed class NoiseOptimizerTests
{
    private const int Samples = 4, Each = 5;

    private static readonly float[] Start = [.. Enumerable.Range(0, Samples * Each).Select(i => MathF.Sin(3 * i))];

    [Theory]
    [InlineData(NoiseBoxNorm.Linf, NoiseStepName.Sign)]
    [InlineData(NoiseBoxNorm.Linf, NoiseStepName.Normalized)]
    [InlineData(NoiseBoxNorm.L2, NoiseStepName.Normalized)]
    [InlineData(NoiseBoxNorm.L2, NoiseStepName.Gradient)]
    public void Box_IsNeverLeft_AndReached(NoiseBoxNorm norm, NoiseStepName step)
    {
        const double Radius = 0.1;
        var optimizer = Of(new NoiseTrainSpec { Step = step, Box = new NoiseBoxSpec { Norm = norm, Radius = Radius } }, 0.04);
        var (noise, state) = ((float[])Start.Clone(), new float[Start.Length * optimizer.StatePerParameter]);
        for (var n = 1; n <= 12; n++)
        {
            optimizer.Step(n, noise, Gradient(n), state);
            Assert.All(Distances(noise, norm, 1), d => Assert.InRange(d, 0, Radius));
        }
        Assert.All(Distances(noise, norm, 1), d => Assert.InRange(d, 0.09, Radius));
    }

    /// <summary>Of two starts of one noise the box is about the first.</summary>
    [Fact]
    public void Box_OfASecondStart_IsAboutTheFirst()
    {
        var optimizer = Of(new NoiseTrainSpec { Step = NoiseStepName.Sign, Box = new NoiseBoxSpec { Norm = NoiseBoxNorm.Linf, Radius = 0.1, Restarts = 2 } }, 0.04);
        var noise = (float[])Start.Clone();
        for (var i = 0; i < Each; i++)
        {
            noise[Each + i] = noise[i] + 0.09f;
            noise[3 * Each + i] = noise[2 * Each + i] - 0.09f;
        }
        var (centre, state) = ((float[])noise.Clone(), new float[Start.Length * optimizer.StatePerParameter]);
        for (var n = 1; n <= 6; n++)
            optimizer.Step(n, noise, Gradient(n), state);
        for (var i = 0; i < Start.Length; i++)
            Assert.InRange(Math.Abs((double)noise[i] - centre[i / (2 * Each) * 2 * Each + i % Each]), 0, 0.1);
    }

    [Fact]
    public void KeepNorm_LeavesEverySampleAsLongAsItWas()
    {
        var optimizer = Of(new NoiseTrainSpec { KeepNorm = true }, 0.3);
        var (noise, state) = ((float[])Start.Clone(), new float[Start.Length * optimizer.StatePerParameter]);
        for (var n = 1; n <= 5; n++)
            optimizer.Step(n, noise, Gradient(n), state);
        Assert.NotEqual(Start, noise);
        for (var s = 0; s < Samples; s++)
            Assert.Equal(GradientNorm.L2(Start.AsSpan(s * Each, Each)), GradientNorm.L2(noise.AsSpan(s * Each, Each)), 1e-6);
    }

    [Fact]
    public void Momentum_Clip_AndLength_AreThoseOfTheFormula()
    {
        var optimizer = Of(new NoiseTrainSpec { Momentum = 0.5, Clip = 0.2 }, 0.1, maxNorm: 0.3);
        var (noise, state, velocity) = ((float[])Start.Clone(), new float[Start.Length * optimizer.StatePerParameter], new double[Start.Length]);
        var expected = Array.ConvertAll(Start, x => (double)x);
        for (var n = 1; n <= 4; n++)
        {
            var gradient = Array.ConvertAll(Gradient(n), g => Math.Clamp((double)g, -0.2, 0.2));
            for (var s = 0; s < Samples; s++)
            {
                var length = Math.Sqrt(gradient.Skip(s * Each).Take(Each).Sum(g => g * g));
                for (var i = s * Each; i < (s + 1) * Each; i++)
                {
                    velocity[i] = 0.5 * velocity[i] + gradient[i] * Math.Min(1, 0.3 / length);
                    expected[i] -= 0.1 * velocity[i];
                }
            }
            optimizer.Step(n, noise, Gradient(n), state);
        }
        for (var i = 0; i < noise.Length; i++)
            Assert.Equal(expected[i], noise[i], 1e-6);
    }

    [Fact]
    public void NoOptions_AreTheOptimiserItself()
    {
        var spec = Spec(new NoiseTrainSpec(), new OptimizerSpec { LearningRate = 0.01 });
        var (mine, theirs) = (ParameterOptimizer.Of(spec), ParameterOptimizer.Of(spec.Optimizer));
        Assert.Equal(theirs.StatePerParameter, mine.StatePerParameter);
        var (a, b, sa, sb) = ((float[])Start.Clone(), (float[])Start.Clone(), new float[2 * Start.Length], new float[2 * Start.Length]);
        for (var n = 1; n <= 3; n++)
        {
            mine.Step(n, a, Gradient(n), sa);
            theirs.Step(n, b, Gradient(n), sb);
        }
        Assert.Equal(b, a);
        Assert.Equal(sb, sa);
    }

    /// <summary>A sample's step does not depend on the others.</summary>
    [Fact]
    public void MaxNorm_IsOfEachSample()
    {
        var optimizer = Of(new NoiseTrainSpec(), 1, maxNorm: 0.1);
        var gradient = new float[Start.Length];
        (gradient[0], gradient[Each]) = (5, 0.05f);
        var noise = (float[])Start.Clone();
        optimizer.Step(1, noise, gradient, []);
        Assert.Equal(0.1, Start[0] - noise[0], 1e-6);
        Assert.Equal(0.05, Start[Each] - noise[Each], 1e-6);
    }

    private static ParameterOptimizer Of(NoiseTrainSpec noise, double rate, double? maxNorm = null) => ParameterOptimizer.Of(Spec(noise, new OptimizerSpec { Name = OptimizerName.Sgd, LearningRate = rate, MaxNorm = maxNorm }));

    private static ExperimentSpec Spec(NoiseTrainSpec noise, OptimizerSpec optimizer) => Cluster.TestSpecs.Small with
    {
        Train = new TrainSpec { Target = TrainTarget.Noise, Noise = noise }, Optimizer = optimizer, Training = new TrainingSpec { Shards = 2, SamplesPerShard = 2 },
    };

    private static float[] Gradient(int step) => [.. Enumerable.Range(0, Samples * Each).Select(i => MathF.Cos(i + 0.1f * step))];

    private static IEnumerable<double> Distances(float[] noise, NoiseBoxNorm norm, int restarts) => Enumerable.Range(0, Samples / restarts).Select(s =>
    {
        var moves = Enumerable.Range(s * Each, Each).Select(i => (double)noise[i] - Start[i]).ToArray();
        return norm == NoiseBoxNorm.Linf ? moves.Max(Math.Abs) : Math.Sqrt(moves.Sum(d => d * d));
    });
}
