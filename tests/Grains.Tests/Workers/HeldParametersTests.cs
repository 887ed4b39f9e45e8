using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Tests.Simulation;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class HeldParametersTests
{
    private static readonly TimeSpan Old = TimeSpan.FromSeconds(60);

    private readonly VirtualTime _time = new();
    private readonly HeldParameters _held;

    public HeldParametersTests() => _held = new HeldParameters(new TensorTransfer(new TensorStore(1), null!, null!, Background.ThreadPool), _time);

    /// <summary>A worker that always has work keeps nothing of the trials that it served before.</summary>
    [Fact]
    public async Task WhatABusyWorkerServedBefore_IsLetGo_AlsoOfATrialWhoseNameBeginsAlike()
    {
        for (var trial = 0; trial < 20; trial++)
            await FetchAsync($"e/{trial}");
        await FetchAsync("e/1", before: true);
        _held.Sweep(Old, trial => trial == "e/10");
        Assert.Equal(21, _held.Count);
        Later(Old + TimeSpan.FromSeconds(1));
        await FetchAsync("e/3");
        _held.Sweep(Old, trial => trial == "e/10");
        Assert.Equal(2, _held.Count);
        // What is long at work counts from its end on.
        Later(Old);
        _held.Sweep(Old, _ => false);
        Assert.Equal(2, _held.Count);
        Later(TimeSpan.FromSeconds(1));
        _held.Sweep(Old, _ => false);
        Assert.Equal(0, _held.Count);
    }

    [Fact]
    public async Task OfATrial_TheNewestVersionIsHeld()
    {
        Assert.Null(await _held.FetchAsync("e/0", before: false, null, CancellationToken.None, CancellationToken.None));
        Assert.Equal([1], (await FetchAsync("e/0", contents: 1)).Bytes.ToArray());
        Assert.Equal([2], (await FetchAsync("e/0", contents: 2)).Bytes.ToArray());
        Assert.Equal(1, _held.Count);
    }

    private async Task<ParameterVersion> FetchAsync(string trial, bool before = false, byte contents = 0)
    {
        byte[] bytes = [contents];
        return (await _held.FetchAsync(trial, before, new TensorReference(TensorReference.HashOf(bytes), 1, "here", bytes), CancellationToken.None, TestContext.Current.CancellationToken))!;
    }

    private void Later(TimeSpan by)
    {
        using var timer = _time.CreateTimer(_ => { }, null, by, Timeout.InfiniteTimeSpan);
        Assert.True(_time.FireNext());
    }
}
