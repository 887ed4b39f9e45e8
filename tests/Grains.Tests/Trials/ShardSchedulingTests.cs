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

    [Fact]
    public void Like_OfOneKind_IsAll_BegunWithTheTrialsOwn() => Assert.Equal(["b", "c", "d", "a"], ShardScheduling.Like(Workers, _ => "x", null, 5));

    [Fact]
    public void Like_AKind_IsItsWorkers_AndSuchThatDoNotTell()
    {
        Assert.Equal(["b", "c"], ShardScheduling.Like(Workers, worker => worker switch { "b" => "x", "c" => null, _ => "y" }, "x", 3));
        Assert.Empty(ShardScheduling.Like(Workers, _ => "y", "x", 0));
    }

    /// <summary>Three workers in four are of one kind, and so are three trials in four; whoever has no kind yet may begin on any worker, when its own do not answer.</summary>
    [Theory]
    [InlineData(0, "b"), InlineData(1, "c"), InlineData(2, "d"), InlineData(3, "a"), InlineData(4, "b")]
    public void Like_ATrialWithoutKind_BeginsOnTheLargestFirst(int trial, string first)
    {
        var like = ShardScheduling.Like(Workers, worker => worker == "a" ? "odd" : "most", null, trial);
        Assert.Equal(Workers, like.Order());
        Assert.Equal(first, like[0]);
        Assert.True(first == "a" || like[^1] == "a");
    }

    [Fact]
    public void Largest_IsTheKindOfMost_AndNoneWhereNobodyTells()
    {
        Assert.Equal("most", ShardScheduling.Largest(Workers, worker => worker == "a" ? "odd" : "most"));
        Assert.Null(ShardScheduling.Largest(Workers, _ => null));
    }

    private static IReadOnlyList<string> Within(SlotsSpec slots, string[]? busy = null, string resting = "") =>
        ShardScheduling.Within(Workers, slots, busy ?? [], worker => worker == resting);
}
