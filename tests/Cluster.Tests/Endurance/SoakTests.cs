using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Cluster.Tests.Endurance;

/// <summary>
/// One experiment after the other on one silo, with a look at it after each: what it holds must not grow with what it has done. A short
/// form runs in CI; <c>ADJOINTDPM_SOAK</c> says how many experiments.
/// </summary>
[Collection(RealCluster.OneAtATime)]
public sealed class SoakTests(ITestOutputHelper output)
{
    private static readonly int Experiments = int.TryParse(Environment.GetEnvironmentVariable("ADJOINTDPM_SOAK"), NumberStyles.None, CultureInfo.InvariantCulture, out var given) ? given : 12;

    [Fact]
    public async Task OneExperimentAfterTheOther_NothingGrows()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var silo = cluster.Silos[0];
        var looks = new List<Look>();
        for (var i = 0; i < Experiments; i++)
        {
            var snapshot = await cluster.RunAsync(FormattableString.Invariant($"soak-{i}"), DigitsSpecs.Small with { HeldOut = null, Training = DigitsSpecs.Small.Training with { Steps = 1, Shards = 2 } });
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
            looks.Add(new Look(silo.Handles, silo.Threads, silo.Memory / (double)(1 << 20)));
        }
        // What is loaded once, and pools that find their size, are no growth: the last two thirds count.
        var late = looks.Skip(Experiments / 3).ToList();
        foreach (var (what, of, most) in new (string, Func<Look, double>, double)[]
        {
            ("handles", look => look.Handles, 0.5), ("threads", look => look.Threads, 0.5),
            // Memory comes in steps of an allocator: a long run tells what a short one cannot.
            ("MiB", look => look.Memory, Experiments >= 200 ? 0.25 : 4),
        })
        {
            var values = late.Select(of).ToList();
            var slope = Slope(values);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {values[0]:f0} after {Experiments / 3 + 1} experiments, {values[^1]:f0} after {Experiments}, {slope:f3} each"));
            Assert.True(slope <= most, string.Create(CultureInfo.InvariantCulture, $"{what} grow by {slope:f3} an experiment: {string.Join(" ", looks.Select(look => of(look).ToString("f0", CultureInfo.InvariantCulture)))}"));
        }
    }

    /// <summary>Of the straight line through values, by least squares.</summary>
    private static double Slope(List<double> values)
    {
        var (middle, mean) = ((values.Count - 1) / 2.0, values.Average());
        return values.Select((value, i) => (i - middle) * (value - mean)).Sum() / values.Select((_, i) => (i - middle) * (i - middle)).Sum();
    }

    private readonly record struct Look(int Handles, int Threads, double Memory);
}
