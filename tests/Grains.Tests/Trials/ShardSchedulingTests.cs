using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class ShardSchedulingTests
{
    private static readonly string[] Workers = ["a", "b", "c", "d"];

    [Fact]
    public void Within_FewerThanMin_Waits() => Assert.Empty(Within(new SlotsSpec { Min = 5 }));

    [Fact]
    public void Within_NoLimits_IsAll() => Assert.Equal(Workers, Within(new SlotsSpec()));

    [Fact]
    public void Within_Max_KeepsThoseInUse_AndPassesOverThoseThatRest()
    {
        Assert.Equal(["a", "b"], Within(new SlotsSpec { Max = 2 }));
        Assert.Equal(["b", "c"], Within(new SlotsSpec { Max = 2 }, resting: "a"));
        // One that is in use stays, so that there are never more than two.
        Assert.Equal(["d", "a"], Within(new SlotsSpec { Max = 2 }, busy: ["d", "d"]));
        Assert.Equal(["c", "d"], Within(new SlotsSpec { Max = 2 }, busy: ["d", "c"], resting: "c"));
    }

    private static IReadOnlyList<string> Within(SlotsSpec slots, string[]? busy = null, string resting = "") =>
        ShardScheduling.Within(Workers, slots, busy ?? [], worker => worker == resting);
}
