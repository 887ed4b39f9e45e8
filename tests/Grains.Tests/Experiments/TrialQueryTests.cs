using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

public sealed class TrialQueryTests
{
    private static readonly TrialSnapshot[] Trials =
    [
        Trial(0, RunState.Succeeded, "1e-3", "ddim", 0.5), Trial(1, RunState.Failed, "1e-4", "heun", null), Trial(2, RunState.Succeeded, "0.0001", "ddim", 0.25),
        Trial(3, RunState.Running, "5e-4", "heun", double.NaN), Trial(4, RunState.Succeeded, "1e-2", "heun", 4),
    ];

    [Theory]
    [InlineData("state=succeeded", "0 2 4")]
    [InlineData("state!=succeeded", "1 3")]
    [InlineData("learningRate<1e-3", "1 2 3")]
    [InlineData("optimizer.learningRate = 1e-4", "1 2")]
    [InlineData("learningRate>=1e-3", "0 4")]
    [InlineData("solver=HEUN", "1 3 4")]
    [InlineData("loss.after<=0.5", "0 2")]
    [InlineData("loss.after!=0.5", "1 2 3 4")]
    [InlineData("index>3", "4")]
    [InlineData("step>1", "2 3 4")]
    [InlineData("nothing>1", "")]
    public void Condition_ChoosesTrials(string condition, string expected) =>
        Assert.Equal(expected, string.Join(' ', new TrialQuery { Where = [TrialCondition.Parse(condition)] }.Of(Trials).Page.Select(trial => trial.Index)));

    [Theory]
    [InlineData(null, false, "0 1 2 3 4")]
    [InlineData(null, true, "4 3 2 1 0")]
    [InlineData("loss.after", false, "2 0 4 1 3")]
    [InlineData("loss.after", true, "4 0 2 1 3")]
    [InlineData("learningRate", false, "1 2 3 0 4")]
    [InlineData("solver", false, "0 2 1 3 4")]
    public void Sort_IsByNumbersAndWords_WithWhatHasNoneLast(string? sort, bool descending, string expected) =>
        Assert.Equal(expected, string.Join(' ', new TrialQuery { Sort = sort, Descending = descending }.Of(Trials).Page.Select(trial => trial.Index)));

    [Fact]
    public void Page_IsOfThoseThatMatch()
    {
        var (page, matched) = new TrialQuery { Where = [TrialCondition.Parse("state=succeeded")], Skip = 1, Take = 1 }.Of(Trials);
        Assert.Equal((3, 2), (matched, Assert.Single(page).Index));
        Assert.Empty(new TrialQuery { Take = -1 }.Of(Trials).Page);
        Assert.Throws<ArgumentOutOfRangeException>(() => new TrialQuery { Skip = -1 }.Of(Trials));
    }

    [Theory]
    [InlineData(""), InlineData("loss"), InlineData("<3"), InlineData("loss<"), InlineData("loss!3"), InlineData(" = ")]
    public void WhatIsNoCondition_IsSaid(string text) =>
        Assert.Contains("is not a condition", Assert.Throws<ArgumentException>(() => TrialCondition.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public async Task Experiment_AnswersQueries_AndTellsEventsAndStepsWithWhatWasObserved()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var spec = TestSpecs.Small with { Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = ["1", "2", "3"] } }, HeldOut = TestSpecs.Small.HeldOut ?? new HeldOutSpec() };
        var (snapshot, events) = await cluster.RunAsync("asked", spec);
        var experiment = cluster.Experiment("asked");
        var found = (await experiment.FindTrialsAsync(new TrialQuery { Where = [TrialCondition.Parse("seed>=2")], Sort = "seed", Descending = true }, TestContext.Current.CancellationToken))!;
        Assert.Equal([2, 1], found.Trials.Select(trial => trial.Index));
        Assert.Null(await cluster.Experiment("none").FindTrialsAsync(new TrialQuery(), TestContext.Current.CancellationToken));

        var told = await experiment.GetEventsAsync(1, 0, int.MaxValue, TestContext.Current.CancellationToken);
        Assert.Equal(events.Where(happened => happened.Trial == 1).Select(happened => happened.Sequence).Reverse(), told.Select(happened => happened.Sequence));
        Assert.Equal([told[1].Sequence], (await experiment.GetEventsAsync(1, 1, 1, TestContext.Current.CancellationToken)).Select(happened => happened.Sequence));

        var steps = await experiment.GetStepsAsync(0, TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(0, spec.Training.Steps + 1), steps.Select(step => step.Step));
        Assert.Equal(snapshot.Trials[0].LossHistory, steps.Skip(1).Select(step => step.Metrics["loss"]));
        Assert.All(steps.Skip(1), step => Assert.Equal(spec.Training.Shards, step.Profile!.Shards!.Count));
        Assert.All(steps.Skip(1), step => Assert.True(step.Profile!.Times!.Total >= 0));
        Assert.Equal(snapshot.Trials[0].Metrics["loss.before"], steps[0].Profile!.HeldOut!["loss"]);
        Assert.Equal(snapshot.Trials[0].Metrics["loss.after"], steps[^1].Profile!.HeldOut!["loss"]);
        Assert.Empty(await experiment.GetStepsAsync(9, TestContext.Current.CancellationToken));
    }

    private static TrialSnapshot Trial(int index, RunState state, string rate, string solver, double? loss) => new()
    {
        Index = index, State = state, Step = index, Steps = 9, LossHistory = [], Metrics = loss is { } value ? new Dictionary<string, double> { ["loss.after"] = value } : new Dictionary<string, double>(),
        Parameters = new Dictionary<string, string> { ["optimizer.learningRate"] = rate, ["sample.solver"] = solver },
    };
}
