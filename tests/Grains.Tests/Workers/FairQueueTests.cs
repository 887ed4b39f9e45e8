using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class FairQueueTests
{
    [Fact]
    public void HigherPriority_GoesFirst_WhateverWasUsed()
    {
        var queue = new FairQueue<int>();
        queue.Add(new("low"), 1);
        queue.Add(new("low"), 2);
        queue.Add(new("high", Priority: 1), 3);
        queue.Used(new("high", Priority: 1), TimeSpan.FromHours(1));
        queue.Add(new("high", Priority: 1), 4);
        Assert.Equal([3, 4, 1, 2], Drain(queue));
    }

    /// <summary>Two always have work waiting, with weights 3 and 1: device time is shared 3 to 1, also when the pieces differ in length.</summary>
    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 4)]
    [InlineData(5, 1)]
    public void EqualPriority_SharesDeviceTimeByWeight(double heavySeconds, double lightSeconds)
    {
        var (heavy, light) = (new WorkShare("heavy", Weight: 3), new WorkShare("light"));
        var queue = new FairQueue<double>();
        queue.Add(light, lightSeconds);
        queue.Add(heavy, heavySeconds);
        var used = new Dictionary<string, double> { ["heavy"] = 0, ["light"] = 0 };
        while (used.Values.Sum() < 400)
        {
            Assert.True(queue.TryTake(out var share, out var seconds));
            queue.Add(share, seconds);
            queue.Used(share, TimeSpan.FromSeconds(seconds));
            used[share.Name] += seconds;
        }
        // Off by no more than the longest piece of each.
        Assert.InRange(used["heavy"], 300 - heavySeconds - 3 * lightSeconds, 300 + heavySeconds + 3 * lightSeconds);
    }

    [Fact]
    public void WhoComesBackAfterAPause_HasSavedNothingUp_AndOwesNothingForWhatNobodyWaitedFor()
    {
        var (busy, late) = (new WorkShare("busy"), new WorkShare("late"));
        var queue = new FairQueue<string>();
        for (var i = 0; i < 100; i++)
        {
            queue.Add(busy, "busy");
            Assert.True(queue.TryTake(out _, out _));
            queue.Used(busy, TimeSpan.FromSeconds(1));
        }
        // 100 seconds of a device that nobody else wanted: from here on the two take turns.
        for (var i = 0; i < 4; i++)
        {
            queue.Add(late, "late");
            queue.Add(busy, "busy");
        }
        var order = new List<string>();
        while (queue.TryTake(out var share, out var item))
        {
            order.Add(item);
            queue.Used(share, TimeSpan.FromSeconds(1));
        }
        Assert.Equal(["late", "busy", "late", "busy", "late", "busy", "late", "busy"], order);
    }

    /// <summary>An hour of more urgent work passes while one waits: whoever comes after it does not have to wait until that one has made up for the hour.</summary>
    [Fact]
    public void TimeThatTheMoreUrgentUsed_IsNoHeadStartForThoseWhoWaited()
    {
        var (urgent, older, newer) = (new WorkShare("urgent", Priority: 5), new WorkShare("older"), new WorkShare("newer"));
        var queue = new FairQueue<string>();
        queue.Add(older, "older");
        for (var i = 0; i < 60; i++)
        {
            queue.Add(urgent, "urgent");
            Assert.True(queue.TryTake(out var share, out var item));
            Assert.Equal("urgent", item);
            queue.Used(share, TimeSpan.FromMinutes(1));
        }
        for (var i = 0; i < 3; i++)
        {
            queue.Add(newer, "newer");
            queue.Add(older, "older");
        }
        var order = new List<string>();
        while (queue.TryTake(out var share, out var item))
        {
            order.Add(item);
            queue.Used(share, TimeSpan.FromSeconds(1));
        }
        Assert.Equal(["older", "newer", "older", "newer", "older", "newer", "older"], order);
    }

    [Fact]
    public void EqualShares_AreServedInTheOrderOfArrival()
    {
        var queue = new FairQueue<int>();
        for (var i = 0; i < 5; i++)
            queue.Add(new("one"), i);
        Assert.Equal([0, 1, 2, 3, 4], Drain(queue));
        Assert.False(queue.TryTake(out _, out _));
    }

    [Fact]
    public async Task Device_TakesWhatIsMoreUrgentFirst_AndSkipsWhatWasCancelled()
    {
        using var blocked = new ManualResetEventSlim();
        using var started = new ManualResetEventSlim();
        using var executor = new DeviceExecutor("cpu:0", new NoEngines(), TimeProvider.System);
        using var cancelled = new CancellationTokenSource();
        var order = new List<string>();
        var first = executor.RunAsync(Of(new("a")), () => Stream.Null, _ =>
        {
            started.Set();
            return blocked.Wait(TimeSpan.FromSeconds(120));
        }, CancellationToken.None);
        Assert.True(started.Wait(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken));
        var token = TestContext.Current.CancellationToken;
        var (low, gone, high) = (Do(new("a"), "low", token), Do(new("a"), "gone", cancelled.Token), Do(new("b", Priority: 1), "high", token));
        await cancelled.CancelAsync();
        blocked.Set();
        Assert.True(await first);
        await Task.WhenAll(low, high);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => gone);
        Assert.Equal(["high", "low"], order);
        executor.Dispose();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Do(new("a"), "late", token));

        Task<int> Do(WorkShare share, string name, CancellationToken cancellationToken) => executor.RunAsync(Of(share), () => Stream.Null, _ =>
        {
            order.Add(name);
            return 0;
        }, cancellationToken);
    }

    private static DeviceTask Of(WorkShare share) => new(share, _ => null);

    private static List<int> Drain(FairQueue<int> queue)
    {
        var items = new List<int>();
        while (queue.TryTake(out _, out var item))
            items.Add(item);
        return items;
    }

    private sealed class NoEngines : IGradientEngineFactory
    {
        public IGradientEngine Create(string device) => new AdjointDpm.Grains.Tests.Cluster.ClosedFormEngine(new(), "");
    }
}
