using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>What a trial does about the proof of its gradient.</summary>
public sealed class GradientProofTests
{
    private static readonly CancellationToken None = TestContext.Current.CancellationToken;

    [Fact]
    public async Task Trial_BeginsWithTheProof_AndKeepsIt()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var (snapshot, _) = await cluster.RunAsync("proven", TestSpecs.Small);
        var trial = Assert.Single(snapshot.Trials);
        Assert.Equal((true, "discrete", 1.0), (trial.Proof!.Passed, trial.Proof.Method, trial.Proof.Cosine));
        Assert.True((await cluster.Experiment("proven").GetGradientProofAsync(0, None))!.Passed);
        Assert.True(File.Exists(Path.Combine(trial.ArtifactFolder!, "gradient-proof.json")));
        Assert.Contains("\"proof\"", await File.ReadAllTextAsync(Path.Combine(snapshot.ArtifactFolder, "report.json"), None), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Trial_WhoseExactGradientIsNotExact_FailsBeforeItTrains()
    {
        var steps = 0;
        var script = new EngineScript { GradientError = 1e-3, BeforeShard = (_, _, _, _) => Interlocked.Increment(ref steps) };
        await using var cluster = await SmallCluster.StartAsync(script: script);
        var (snapshot, _) = await cluster.RunAsync("wrong", TestSpecs.Small);
        Assert.Equal(RunState.Failed, snapshot.Summary.State);
        Assert.Equal("The gradient (discrete) is not proven: all: relative error 0.001.", snapshot.Trials[0].Reason);
        Assert.Equal((0, 0), (steps, snapshot.Trials[0].Step));
        Assert.False((await cluster.Experiment("wrong").GetGradientProofAsync(0, None))!.Passed);
    }

    [Fact]
    public async Task Trial_WithoutAProof_TrainsAll_AndHasNone()
    {
        await using var cluster = await SmallCluster.StartAsync(script: new EngineScript { GradientError = 1e-3 });
        var (snapshot, _) = await cluster.RunAsync("unproven", With(ProofMode.Off));
        Assert.Equal((RunState.Succeeded, 4), (snapshot.Summary.State, snapshot.Trials[0].Step));
        Assert.Null(snapshot.Trials[0].Proof);
        Assert.Null(await cluster.Experiment("unproven").GetGradientProofAsync(0, None));
    }

    [Theory]
    [InlineData(0, RunState.Succeeded)]
    [InlineData(1e-3, RunState.Failed)]
    public async Task Trial_ForTheProofAlone_TrainsNothing(double error, RunState expected)
    {
        await using var cluster = await SmallCluster.StartAsync(1, new EngineScript { GradientError = error });
        var (snapshot, _) = await cluster.RunAsync("only", With(ProofMode.Only));
        Assert.Equal((expected, 0), (snapshot.Summary.State, snapshot.Trials[0].Step));
        Assert.Equal(error == 0, (await cluster.Experiment("only").GetGradientProofAsync(0, None))!.Passed);
        var audit = await cluster.Experiment("only").AuditAsync(0, None);
        Assert.Empty(audit!.Violations);
    }

    private static ExperimentSpec With(ProofMode mode) => TestSpecs.Small with { Gradient = new GradientSpec { Check = new ProofSpec { Mode = mode } } };
}
