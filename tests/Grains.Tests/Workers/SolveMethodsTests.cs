using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>What a spec may name is what the library has, by its names.</summary>
public sealed class SolveMethodsTests
{
    public static TheoryData<SolverName> Solvers => [.. Enum.GetValues<SolverName>()];

    [Theory]
    [MemberData(nameof(Solvers))]
    public void Sampler_HasTheNameOfTheSpec(SolverName solver)
    {
        var sampler = SolveMethods.Sampler(new SampleSpec { Solver = solver });
        Assert.Equal((sampler is AdaptiveSampler ? "adaptive-" : "") + ExperimentSpecJson.NameOf(solver), sampler.Name);
    }

    [Fact]
    public void EverySamplerOfTheLibrary_CanBeNamed() =>
        Assert.Subset(Enum.GetValues<SolverName>().Select(ExperimentSpecJson.NameOf).ToHashSet(), Sampler.Known.Select(sampler => sampler.Name).ToHashSet());

    [Fact]
    public void EveryGridOfTheLibrary_CanBeNamed() => Assert.Equal(Enum.GetNames<GridKind>(), Enum.GetNames<GridName>());

    [Fact]
    public void Options_ReachTheSampler()
    {
        var adaptive = Assert.IsType<AdaptiveSampler>(SolveMethods.Sampler(new SampleSpec { Solver = SolverName.Tsit5, Rtol = 1e-7, Atol = 1e-8 }));
        Assert.Equal((1e-7, 1e-8), (adaptive.Control.Relative, adaptive.Control.Absolute));
        Assert.Equal(0.3, SolveMethods.Sampler(new SampleSpec { Eta = 0.3 }).Tau);
    }

    [Theory]
    [InlineData(GradientName.Discrete, true)]
    [InlineData(GradientName.StoreAll, true)]
    [InlineData(GradientName.Checkpointed, true)]
    [InlineData(GradientName.Offloaded, true)]
    [InlineData(GradientName.Reversible, true)]
    [InlineData(GradientName.Continuous, false)]
    [InlineData(GradientName.Truncated, false)]
    [InlineData(GradientName.AdjointDeis, false)]
    [InlineData(GradientName.LowVariance, false)]
    public void Gradient_ClaimsToBeExact_WhereItIs(GradientName name, bool exact) =>
        Assert.Equal(exact, SolveMethods.Gradient(new GradientSpec { Method = name, Slots = 2, Last = 1 }).IsExact);
}
