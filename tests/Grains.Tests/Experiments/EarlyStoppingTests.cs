using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using AdjointDpm.Grains.Experiments.Stopping;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

/// <summary>ASHA, Hyperband and the median rule as a schedule: against traces of others, in any order of results, after any crash.</summary>
public sealed class EarlyStoppingTests
{
    private static readonly JsonSerializerOptions CamelCase = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    /// <summary>Traces of Reference/halving.py: Optuna's pruners, and algorithm 2 of the ASHA paper.</summary>
    [Theory]
    [InlineData("promotion")]
    [InlineData("stopping")]
    [InlineData("median")]
    public void Decisions_AreThoseOfTheReference(string rule)
    {
        for (var i = 1; i <= 3; i++)
        {
            var trace = Read($"{rule}{i}");
            var spec = Spec(trace.Steps, trace.Concurrent, trace.Losses.Count, new EarlyStoppingSpec
            {
                Name = rule == "median" ? EarlyStoppingName.Median : EarlyStoppingName.Asha,
                Mode = rule == "stopping" ? HalvingMode.Stopping : HalvingMode.Promotion,
                MinSteps = trace.MinSteps,
                ReductionFactor = trace.ReductionFactor,
            });
            var expected = trace.Trace.Select(item => string.Join(' ', item.Select(part => part.ToString()))).ToList();
            Assert.Equal(expected, Run(spec, (trial, step) => trace.Losses[trial][step - 1], null));
        }
    }

    [Theory]
    [InlineData(EarlyStoppingName.Asha, HalvingMode.Promotion)]
    [InlineData(EarlyStoppingName.Asha, HalvingMode.Stopping)]
    [InlineData(EarlyStoppingName.Hyperband, HalvingMode.Promotion)]
    [InlineData(EarlyStoppingName.Median, HalvingMode.Promotion)]
    public void OrderOfResults_Crashes_AndFailures_ChangeNothing(EarlyStoppingName name, HalvingMode mode)
    {
        var spec = Spec(20, 5, 50, new EarlyStoppingSpec { Name = name, Mode = mode, MinSteps = 2, ReductionFactor = 3, MinTrials = 3 });
        double? Loss(int trial, int step) => (trial * 7 + step) % 23 == 0 ? null : ((trial * 37 % 50) / 50.0) + 1.0 / step;
        var expected = Run(spec, Loss, null);
        for (var seed = 1; seed <= 20; seed++)
            Assert.Equal(expected, Run(spec, Loss, new Random(seed)));
        // Every trial begins, and ends in one of the three ways.
        Assert.Equal(50, expected.Count(line => line.StartsWith("begin", StringComparison.Ordinal)));
    }

    /// <summary>Li et al. 2018, table 1: R = 81, η = 3.</summary>
    [Fact]
    public void Hyperband_HasTheBracketsOfThePaper()
    {
        var spec = Spec(81, 4, 81 + 34 + 15 + 8 + 5, new EarlyStoppingSpec { Name = EarlyStoppingName.Hyperband });
        var steps = new Dictionary<int, int>();
        Run(spec, (trial, step) => trial, null, (trial, step) => steps[trial] = step);
        int[] Reached(int first, int count) => [.. Enumerable.Range(first, count).Select(trial => steps[trial]).GroupBy(step => step).OrderBy(group => group.Key).Select(group => group.Count())];
        // Those that end at each look: of 81, 27 go on, of these 9, 3, 1.
        Assert.Equal([54, 18, 6, 2, 1], Reached(0, 81));
        Assert.Equal([23, 8, 2, 1], Reached(81, 34));
        Assert.Equal([10, 4, 1], Reached(115, 15));
        Assert.Equal([6, 2], Reached(130, 8));
        Assert.Equal([5], Reached(138, 5));
    }

    [Theory]
    [InlineData(EarlyStoppingName.Asha)]
    [InlineData(EarlyStoppingName.Hyperband)]
    [InlineData(EarlyStoppingName.Median)]
    public void RetryAndMoreTrials_GoOnFromWhereItStood(EarlyStoppingName name)
    {
        var spec = Spec(9, 2, 9, new EarlyStoppingSpec { Name = name, MinSteps = 1, ReductionFactor = 3, MinTrials = 2 });
        var schedule = new TrialSchedule(spec, 9);
        var broken = true;
        var ended = new Dictionary<int, int>();
        void Go()
        {
            while (true)
            {
                while (schedule.Next() is { } decision)
                    if (decision.Kind == DecisionKind.Stop)
                        ended[decision.Trial] = decision.Step;
                if (schedule.Running.Count == 0)
                    return;
                foreach (var leg in schedule.Running.Values.ToList())
                {
                    var fails = broken && leg.Trial == 0;
                    Tell(schedule, leg.Trial, leg.Until, fails ? null : leg.Trial, 9);
                    if (leg.Until == 9)
                        ended[leg.Trial] = 9;
                }
            }
        }

        Go();
        Assert.DoesNotContain(0, ended.Keys);
        broken = false;
        schedule.Retry(0);
        Go();
        // It is the best of all.
        Assert.Equal(9, ended[0]);
        schedule.Revise(20, 3);
        Go();
        Assert.Equal(Enumerable.Range(0, 20), ended.Keys.Order());
    }

    /// <summary>Runs a schedule to its end; with random numbers results arrive in any order, and now and then all but what was reported is forgotten.</summary>
    private static List<string> Run(ExperimentSpec spec, Func<int, int, double?> loss, Random? random, Action<int, int>? reached = null)
    {
        var journal = new List<(int Trial, int Step, double? Loss)>();
        var trace = new List<string>();
        var schedule = new TrialSchedule(spec, spec.MaxTrials!.Value);
        while (true)
        {
            Decide();
            if (schedule.Running.Count == 0)
                return trace;
            var open = schedule.Awaited.ToList();
            var next = random is null ? open[0] : open[random.Next(open.Count)];
            var value = loss(next.Trial, next.Until);
            journal.Add((next.Trial, next.Until, value));
            reached?.Invoke(next.Trial, next.Until);
            Tell(schedule, next.Trial, next.Until, value, spec.Training.Steps);
            if (random?.Next(10) != 0)
                continue;
            schedule = new TrialSchedule(spec, spec.MaxTrials.Value);
            trace.Clear();
            foreach (var line in journal)
            {
                Decide();
                Tell(schedule, line.Trial, line.Step, line.Loss, spec.Training.Steps);
            }
        }

        void Decide()
        {
            while (schedule.Next() is { } decision)
                trace.Add(string.Create(CultureInfo.InvariantCulture, $"{JsonNamingPolicy.CamelCase.ConvertName(decision.Kind.ToString())} {decision.Trial} {decision.Step}"));
        }
    }

    private static void Tell(TrialSchedule schedule, int trial, int step, double? loss, int steps)
    {
        if (loss is null || step == steps)
            schedule.End(trial, loss);
        else
            schedule.Report(trial, step, loss);
    }

    private static ExperimentSpec Spec(int steps, int concurrent, int trials, EarlyStoppingSpec stopping) => TestSpecs.Small with
    {
        Training = new TrainingSpec { Steps = steps },
        Algorithm = new AlgorithmSpec { Name = AlgorithmName.Random },
        MaxTrials = trials,
        MaxConcurrentTrials = concurrent,
        EarlyStopping = stopping,
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.beta1"] = new() { Min = 0, Max = 0.9 } },
    };

    private static Reference Read(string name, [CallerFilePath] string path = "") =>
        JsonSerializer.Deserialize<Reference>(File.ReadAllText(Path.Combine(Path.GetDirectoryName(path)!, "Reference", name + ".json")), CamelCase)!;

    private sealed record Reference(int Steps, int MinSteps, int ReductionFactor, int Concurrent, List<List<double>> Losses, List<List<JsonElement>> Trace);
}
