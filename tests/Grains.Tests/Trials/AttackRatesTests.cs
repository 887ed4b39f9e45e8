using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class AttackRatesTests
{
    private static Dictionary<string, double> Metrics(double eligible, double success) => new()
    {
        ["audit.eligible.after"] = eligible, ["audit.success.after"] = success, ["audit.random.after"] = 0.025, ["audit.recognised.after"] = success / 2, ["audit.met.after"] = success + 0.1, ["noise.linf.after"] = 0.2, ["noise.l2.after"] = 4.5,
    };

    [Fact]
    public void Rates_AreOfNoises_WithWilsonsInterval()
    {
        var metrics = Metrics(0.8, 0.7);
        AttackRates.Add(metrics, "after", 40);
        Assert.Equal((28.0 / 32, 1.0 / 32, 0.5), (metrics["audit.rate.after"], metrics["audit.randomRate.after"], metrics["audit.recognisedRate.after"]));
        // By hand, z = 1.959964: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).
        Assert.Equal((0.7193, 0.9503), (Math.Round(metrics["audit.rateLow.after"], 4), Math.Round(metrics["audit.rateHigh.after"], 4)));

        var outcome = AttackOutcome.Of(metrics, 140)!;
        Assert.Equal((40, 8, 32), (outcome.Noises, outcome.MetBefore, outcome.MetAfter));
        Assert.Equal((28, 32, 14, 28), (outcome.Success!.Count, outcome.Success.Of, outcome.Recognised!.Count, outcome.Recognised.Of));
        Assert.Equal((0.2, 4.5, 5.0), (outcome.LargestMove, outcome.Move, outcome.SecondsPerSuccess));
    }

    [Fact]
    public void Rates_WithoutEligibleNoisesOrSuccess_AreLeftOut()
    {
        var nothing = Metrics(0, 0);
        AttackRates.Add(nothing, "after", 40);
        Assert.DoesNotContain("audit.rate.after", nothing.Keys);
        Assert.Null(AttackOutcome.Of(nothing, 1)!.Success);

        var failed = Metrics(1, 0);
        AttackRates.Add(failed, "after", 40);
        Assert.Equal(0, failed["audit.rate.after"]);
        Assert.DoesNotContain("audit.recognisedRate.after", failed.Keys);
        Assert.True(AttackOutcome.Of(failed, 1) is { Recognised: null, SecondsPerSuccess: null, Success.Count: 0 });

        Assert.Null(AttackOutcome.Of(new Dictionary<string, double> { ["loss.after"] = 1 }, 1));
        // Before there was an attack there is a rate, and no interval.
        var before = new Dictionary<string, double> { ["audit.eligible.before"] = 1, ["audit.success.before"] = 0 };
        AttackRates.Add(before, "before", 10);
        Assert.Equal(["audit.eligible.before", "audit.noises.before", "audit.rate.before", "audit.success.before"], before.Keys.Order());
    }
}
