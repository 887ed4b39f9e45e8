using AdjointDpm.Grains.Trials;
using CsCheck;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class GradientWindowTests
{
    [Theory]
    [InlineData(1, 1), InlineData(8, 8), InlineData(64, 17), InlineData(1000, 25)]
    public void Most_GrowsWithTheLevelsOfTheTree_AndNotWithShardsOrWorkers(int shards, int most) => Assert.Equal(most, new GradientWindow(shards).Most);

    [Fact]
    public void FirstMissing_GoesFirst_ThenOneWhoseNeighbourIsThere_ThenTheLowest()
    {
        var window = new GradientWindow(8, ahead: 1);
        var (five, six, one, zero) = (window.Ask(5), window.Ask(6), window.Ask(1), window.Ask(0));
        // Five was there first, zero may always.
        Assert.Equal([true, false, false, true], Admitted(five, six, one, zero));
        window.Leave(five, added: true);
        Assert.False(window.IsBlocked);
        window.Leave(zero, added: true);
        Assert.Equal([true, false, true], Admitted(five, six, one));
        window.Leave(one, added: true);
        Assert.False(six.Turn.IsCompleted);
        var (four, two) = (window.Ask(4), window.Ask(2));
        Assert.Equal([false, false, true], Admitted(six, four, two));
        window.Leave(two, added: true);
        var three = window.Ask(3);
        window.Leave(three, added: true);
        // Four is the first missing one now, and then all before six.
        Assert.Equal([true, false], Admitted(four, six));
        window.Leave(four, added: true);
        Assert.True(six.Turn.IsCompleted);
    }

    [Fact]
    public void TransferThatFails_LeavesItsPlace_ToTheShardsNextAttempt()
    {
        var window = new GradientWindow(4, ahead: 1);
        var (first, again, other) = (window.Ask(0), window.Ask(0), window.Ask(2));
        Assert.Equal([true, false, true], Admitted(first, again, other));
        window.Leave(first, added: false);
        Assert.True(again.Turn.IsCompleted);
        // One that gives up before its turn.
        var third = window.Ask(0);
        window.Leave(third, added: false);
        window.Leave(again, added: true);
        Assert.Equal(2, window.Held);
    }

    /// <summary>Whatever comes when, however often transfers fail: never more arrays than were said, and never all waiting for nothing.</summary>
    [Fact]
    public void AnyOrderOfArrivals_StaysBelowTheBound_AndComesToItsEnd() =>
        Gen.Select(Gen.Int[1, 70], Gen.Int[1, 6], Gen.Int[0, int.MaxValue]).Sample((shards, ahead, seed) =>
        {
            var random = new Random(seed);
            var window = new GradientWindow(shards, ahead);
            var order = Enumerable.Range(0, shards).ToArray();
            random.Shuffle(order);
            var (coming, asked) = (new Queue<int>(order), new List<GradientWindow.Place>());
            var added = 0;
            while (added < shards)
            {
                var ready = asked.Where(place => place.Turn.IsCompleted).ToList();
                Assert.InRange(window.Held, 0, window.Most);
                Assert.True(ready.Count > 0 || coming.Count > 0, "All wait, and nothing is under way.");
                Assert.Equal(asked.Count > ready.Count && ready.Count == 0, window.IsBlocked);
                if (coming.Count > 0 && (ready.Count == 0 || random.Next(3) > 0))
                {
                    asked.Add(window.Ask(coming.Dequeue()));
                    continue;
                }
                var one = ready[random.Next(ready.Count)];
                var fails = random.Next(8) == 0;
                asked.Remove(one);
                window.Leave(one, added: !fails);
                if (fails)
                    coming.Enqueue(one.Shard);
                else
                    added++;
            }
            Assert.Equal(1, window.Held);
        });

    private static bool[] Admitted(params GradientWindow.Place[] places) => [.. places.Select(place => place.Turn.IsCompleted)];
}
