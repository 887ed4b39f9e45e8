using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Tests.DataPlane;
using AdjointDpm.Grains.Tests.Simulation;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class HeldParametersTests
{
    private static readonly TimeSpan Old = TimeSpan.FromSeconds(60);

    private readonly VirtualTime _time = new();
    private readonly TensorStore _here = new(1 << 20);
    private readonly Elsewhere _elsewhere = new();
    private readonly HeldParameters _held;

    public HeldParametersTests() => _held = new HeldParameters(new TensorTransfer(_here, OneGrain.Factory(_elsewhere), new HereSilo(), Background.ThreadPool), _time);

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

    /// <summary>Step after step two arrays are enough, and what a step reads is what it asked for.</summary>
    [Fact]
    public async Task NextVersion_LiesWhereTheOneBeforeTheLastLay()
    {
        var arrays = new HashSet<byte[]>(ReferenceEqualityComparer.Instance);
        for (byte step = 0; step < 8; step++)
        {
            var (one, other) = (await FromElsewhereAsync(step), await FromElsewhereAsync(step));
            Assert.Same(ArrayOf(one), ArrayOf(other));
            Assert.Equal(-1, one.Version.Bytes.Span.IndexOfAnyExcept(step));
            arrays.Add(ArrayOf(one));
            one.Leave();
            other.Leave();
        }
        Assert.Equal(2, arrays.Count);
        // Another length has no use for them.
        Assert.Equal(90_000, (await FromElsewhereAsync(9, 90_000)).Version.Bytes.Length);
    }

    [Fact]
    public async Task WhatIsStillRead_IsNotWrittenOver()
    {
        var read = await FromElsewhereAsync(1);
        for (byte step = 2; step < 6; step++)
        {
            var next = await FromElsewhereAsync(step);
            Assert.NotSame(ArrayOf(read), ArrayOf(next));
            Assert.Equal(-1, read.Version.Bytes.Span.IndexOfAnyExcept((byte)1));
            next.Leave();
        }
        // Once it is let go it is as good as any.
        read.Leave();
        var seen = new List<byte[]>();
        for (byte step = 6; step < 10; step++)
        {
            var next = await FromElsewhereAsync(step);
            seen.Add(ArrayOf(next));
            next.Leave();
        }
        Assert.Equal(2, seen.Distinct(ReferenceEqualityComparer.Instance).Count());
    }

    /// <summary>Another version is wanted while work waits for the one before: that one is read all the same, from memory of its own.</summary>
    [Fact]
    public async Task WhatIsWaitedFor_CountsAsRead()
    {
        (await FromElsewhereAsync(1)).Leave();
        (await FromElsewhereAsync(2)).Leave();
        _elsewhere.Gate = new TaskCompletionSource();
        var slow = FromElsewhereAsync(3);
        var next = FromElsewhereAsync(4);
        _elsewhere.Gate.SetResult();
        _elsewhere.Gate = null;
        var (third, fourth) = (await slow, await next);
        var fifth = await FromElsewhereAsync(5);
        foreach (var (used, contents) in new[] { (third, (byte)3), (fourth, (byte)4), (fifth, (byte)5) })
            Assert.Equal(-1, used.Version.Bytes.Span.IndexOfAnyExcept(contents));
    }

    /// <summary>What a coordinator in the same process offers is read where it lies: it may write there once all work that read it is done, and no sooner.</summary>
    [Fact]
    public async Task WhatIsHere_IsItsCoordinatorsAgain_WhenNobodyReadsIt()
    {
        byte[] offered = [.. Enumerable.Repeat((byte)7, 100_000)];
        var reference = new TensorReference(_here.Pin(offered), offered.Length, "here");
        var (one, other) = (await HereAsync(), await HereAsync());
        Assert.Same(offered, ArrayOf(one));
        Assert.Same(offered, ArrayOf(other));
        one.Leave();
        // The next version comes over the network, and never into this one's memory.
        for (byte step = 1; step < 5; step++)
            (await FromElsewhereAsync(step)).Leave();
        Assert.Equal(-1, offered.AsSpan().IndexOfAnyExcept((byte)7));
        other.Leave();
        (await HereAsync()).Leave();
        Assert.Equal(0, _held.Count);
        Assert.True(_here.Reclaim(reference.Sha256, offered));
        // Whoever asks for it now does not get what is written there.
        offered.AsSpan().Fill(8);
        await Assert.ThrowsAnyAsync<Exception>(HereAsync);

        async Task<UsedParameters> HereAsync() => (await _held.FetchAsync("e/0", before: false, reference, CancellationToken.None, TestContext.Current.CancellationToken))!;
    }

    private async Task<ParameterVersion> FetchAsync(string trial, bool before = false, byte contents = 0)
    {
        byte[] bytes = [contents];
        return (await _held.FetchAsync(trial, before, new TensorReference(TensorReference.HashOf(bytes), 1, "here", bytes), CancellationToken.None, TestContext.Current.CancellationToken))!.Version;
    }

    private async Task<UsedParameters> FromElsewhereAsync(byte contents, int length = 100_000) =>
        (await _held.FetchAsync("e/0", before: false, _elsewhere.Offer(contents, length), CancellationToken.None, TestContext.Current.CancellationToken))!;

    private static byte[] ArrayOf(UsedParameters used) =>
        System.Runtime.InteropServices.MemoryMarshal.TryGetArray(used.Version.Bytes, out var segment) ? segment.Array! : throw new InvalidOperationException("No array.");

    /// <summary>A silo that is asked in chunks, each of which waits until it is let go when the gate is closed.</summary>
    private sealed class Elsewhere : ITensorStoreGrain
    {
        private readonly Dictionary<string, byte[]> _bytes = [];

        public TaskCompletionSource? Gate { get; set; }

        public TensorReference Offer(byte contents, int length)
        {
            var bytes = new byte[length];
            bytes.AsSpan().Fill(contents);
            var sha = TensorReference.HashOf(bytes);
            _bytes[sha] = bytes;
            return new TensorReference(sha, length, "there");
        }

        public async Task<TensorChunk?> ReadAsync(string sha256, long offset, int length)
        {
            if (Gate is { } gate)
                await gate.Task;
            return TensorChunk.View(_bytes[sha256].AsMemory((int)offset, length));
        }

        public Task<TensorGrant?> GrantAsync(string sha256, long offset, long length) => Task.FromResult<TensorGrant?>(null);
    }

    private void Later(TimeSpan by)
    {
        using var timer = _time.CreateTimer(_ => { }, null, by, Timeout.InfiniteTimeSpan);
        Assert.True(_time.FireNext());
    }
}
