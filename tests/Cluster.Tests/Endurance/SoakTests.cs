using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Cluster.Tests.Endurance;

/// <summary>
/// One experiment after the other on one silo, with a look at it after each: what it holds must not grow with what it has done.
/// <c>ADJOINTDPM_SOAK</c> says how many experiments. In CI there are as few as show it: what is loaded once, and pools that find their
/// size, grow at first; what grows with each experiment never ends.
/// </summary>
[Collection(RealCluster.OneAtATime)]
public sealed class SoakTests(ITestOutputHelper output)
{
    private const int Most = 40;
    private const int Steady = 8;

    private static readonly int? Experiments = int.TryParse(Environment.GetEnvironmentVariable("ADJOINTDPM_SOAK"), NumberStyles.None, CultureInfo.InvariantCulture, out var given) ? given : null;

    /// <summary>What is looked at, and how much of it one experiment may leave. Memory comes in steps of an allocator: a long run tells what a short one cannot.</summary>
    private static readonly (string What, Func<Look, double> Of, double Most)[] Held =
    [
        ("handles", look => look.Handles, 0.5),
        ("threads", look => look.Threads, 0.5),
        ("MiB", look => look.Memory, Experiments >= 200 ? 0.25 : 2),
    ];

    [Fact]
    public async Task OneExperimentAfterTheOther_NothingGrows()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var silo = cluster.Silos[0];
        var looks = new List<Look>();
        while (looks.Count < (Experiments ?? Most) && (Experiments is not null || looks.Count <= Steady || Growing(looks[^Steady..]).Any()))
        {
            var snapshot = await cluster.RunAsync(FormattableString.Invariant($"soak-{looks.Count}"), DigitsSpecs.Small with { HeldOut = null, Training = DigitsSpecs.Small.Training with { Steps = 1, Shards = 2 } });
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
            looks.Add(new Look(silo.Handles, silo.Threads, silo.Memory / (double)(1 << 20)));
        }
        var late = Experiments is { } all ? looks[(all / 3)..] : looks[^Steady..];
        foreach (var (what, of, _) in Held)
            output.WriteLine(Line(what, of, late));
        Assert.Empty(Growing(late).Select(held => $"{Line(held.What, held.Of, late)}: {string.Join(" ", looks.Select(look => held.Of(look).ToString("f0", CultureInfo.InvariantCulture)))}"));

        string Line(string what, Func<Look, double> of, List<Look> late) =>
            string.Create(CultureInfo.InvariantCulture, $"{what}: {of(late[0]):f0} after {looks.Count - late.Count + 1} experiments, {of(late[^1]):f0} after {looks.Count}, {Slope(late, of):f3} each");
    }

    private static IEnumerable<(string What, Func<Look, double> Of, double Most)> Growing(List<Look> late) => Held.Where(held => Slope(late, held.Of) > held.Most);

    /// <summary>Of the straight line through values, by least squares.</summary>
    private static double Slope(List<Look> looks, Func<Look, double> of)
    {
        var values = looks.ConvertAll(look => of(look));
        var (middle, mean) = ((values.Count - 1) / 2.0, values.Average());
        return values.Select((value, i) => (i - middle) * (value - mean)).Sum() / values.Select((_, i) => (i - middle) * (i - middle)).Sum();
    }

    private readonly record struct Look(int Handles, int Threads, double Memory);
}
