using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

/// <summary>What a step costs beyond the network, in tensor operations and host reads: numbers that do not depend on the machine.</summary>
public sealed class StepCostTests
{
    // With variance exploding alpha is 1, so the network's input is the state itself; otherwise one multiplication an evaluation comes on top.
    [Theory]
    [InlineData("ddim", 1, 1)]
    [InlineData("midpoint", 2, 2)]
    [InlineData("heun", 3, 2)]
    [InlineData("rk4", 7, 4)]
    public void FixedGrid_StepsCostSoManyOperationsAndReadNothing(string sampler, int operations, int evaluations)
    {
        Assert.Equal((operations, 0), PerStep(Sampler.Named(sampler), VarianceExploding()));
        Assert.Equal((operations + evaluations, 0), PerStep(Sampler.Named(sampler), new LinearVp()));
    }

    // For dopri5: stages 15, result 5, error 6, tolerance and norm 7.
    [Theory]
    [InlineData("bosh3", 16)]
    [InlineData("dopri5", 33)]
    [InlineData("tsit5", 35)]
    public void AdaptiveStep_CostsSoManyOperationsAndOneRead(string pair, int operations)
    {
        var tableau = pair switch { "bosh3" => ButcherTableau.Bosh3, "dopri5" => ButcherTableau.Dopri5, _ => ButcherTableau.Tsit5 };
        // Beyond the steps: three norms for the first one (2 reads of size and speed, 1 of the bend) and the check of the sample.
        var (fewSteps, fewOps, fewReads) = Count(tableau, 1e-3);
        var (steps, ops, reads) = Count(tableau, 1e-7);
        Assert.True(steps > fewSteps);
        Assert.Equal(operations, (double)(ops - fewOps) / (steps - fewSteps));
        Assert.Equal(1, (double)(reads - fewReads) / (steps - fewSteps));
        Assert.Equal(steps + 4, reads);
        Assert.InRange(operations, 1, 40);
    }

    // The count is of calls made through one routine. Each call that is not in place makes one tensor, so tensors made are a check on it from outside.
    [Theory]
    [InlineData("ddim", 1)]
    [InlineData("heun", 2)]
    [InlineData("rk4", 4)]
    public void FixedGrid_MakesNoTensorsThatAreNotCounted(string sampler, int sums)
    {
        long Made(int steps)
        {
            var before = DisposeScopeManager.Statistics.TensorStatistics.CreatedInScopeCount;
            Solve(Sampler.Named(sampler), TimeGrid.LogSnr(VarianceExploding(), steps, 0.1, 10));
            return DisposeScopeManager.Statistics.TensorStatistics.CreatedInScopeCount - before;
        }

        // A step makes its sums, each the first operation of one, a handle for each input that is the state itself, and the network's own output.
        Made(3);
        var handles = (Made(30) - Made(10)) / 20;
        Assert.Equal(sums + 1 + sums, handles);
    }

    // The gradient's own reads are those of the loss and of the checks of what comes out: none for a step.
    [Theory]
    [InlineData("ddim", 1)]
    [InlineData("heun", 2)]
    [InlineData("rk4", 4)]
    [InlineData("dpm++2m", 1)]
    public void Discrete_CostsOneEvaluationAndProductMorePerEvaluationAndReadsNothing(string sampler, int evaluations)
    {
        var (few, many) = (Differentiated(3), Differentiated(11));
        Assert.Equal(few, many);

        long Differentiated(int steps)
        {
            using var scope = NewDisposeScope();
            using Scalar slope = 0.3.ToScalar();
            var weight = ones(1, ScalarType.Float64);
            var request = new SampleRequest
            {
                Field = NoiseField.From((x, _) => x.mul(weight).sin()).With("weight", weight),
                Noise = CounterNoise.Normal(new(2), [2, 3], ScalarType.Float64),
                Grid = TimeGrid.LogSnr(VarianceExploding(), steps, 0.1, 10),
                Sampler = Sampler.Named(sampler),
            };
            using var sample = Sampling.Sample(request, TestContext.Current.CancellationToken);
            var reads = Tally.Reads;
            using var result = Sampling.Differentiate(request, x => x.mul(slope).sum(), GradientMethod.Discrete, TestContext.Current.CancellationToken);
            var n = evaluations * steps;
            Assert.Equal((n, 0, 0), (sample.Statistics.ForwardNfe, sample.Statistics.BackwardNfe, sample.Statistics.Vjps));
            Assert.Equal((n, n, n, 0), (result.Statistics.ForwardNfe, result.Statistics.BackwardNfe, result.Statistics.Vjps, result.Statistics.Recomputed));
            return Tally.Reads - reads;
        }
    }

    private static VarianceExploding VarianceExploding() => new();

    private static (double Operations, double Reads) PerStep(Sampler sampler, NoiseSchedule schedule)
    {
        var (few, many) = (Tallied(10), Tallied(30));
        return ((many.Operations - few.Operations) / 20.0, (many.Reads - few.Reads) / 20.0);

        (long Operations, long Reads) Tallied(int steps)
        {
            var (operations, reads) = (Tally.Operations, Tally.Reads);
            Solve(sampler, TimeGrid.LogSnr(schedule, steps, 0.1, 10));
            return (Tally.Operations - operations, Tally.Reads - reads);
        }
    }

    private static (int Steps, long Operations, long Reads) Count(ButcherTableau tableau, double tolerance)
    {
        var (operations, reads) = (Tally.Operations, Tally.Reads);
        var statistics = Solve(new AdaptiveSampler(tableau, new() { Relative = tolerance, Absolute = tolerance }), TimeGrid.LogSnr(VarianceExploding(), 1, 0.1, 10));
        return (statistics.Steps + statistics.Rejected, Tally.Operations - operations, Tally.Reads - reads);
    }

    private static SolveStatistics Solve(Sampler sampler, TimeGrid grid)
    {
        using var scope = NewDisposeScope();
        using var result = Sampling.Sample(new() { Field = NoiseField.From((x, _) => x.sin()), Noise = CounterNoise.Normal(new(2), [2, 3], ScalarType.Float64), Grid = grid, Sampler = sampler }, TestContext.Current.CancellationToken);
        return result.Statistics;
    }
}
