using AdjointDpm.Grains.DataPlane;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;

namespace AdjointDpm.Grains.Tests.DataPlane;

public sealed class TensorChunkTests
{
    private static readonly ServiceProvider Services = new ServiceCollection().AddSerializer().BuildServiceProvider();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(70_000)]
    [InlineData(TensorChunk.MaxLength)]
    public void Codec_RoundTrips(int length)
    {
        var bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        var serializer = Services.GetRequiredService<Serializer>();
        using var chunk = TensorChunk.View(bytes);
        using var read = serializer.Deserialize<TensorChunk>(serializer.SerializeToArray(chunk));
        Assert.True(read!.Memory.Span.SequenceEqual(bytes));
    }

    [Fact]
    public void Codec_RoundTripsNullAndInsideOthers()
    {
        var serializer = Services.GetRequiredService<Serializer>();
        Assert.Null(serializer.Deserialize<TensorChunk?>(serializer.SerializeToArray<TensorChunk?>(null)));
        using var chunk = TensorChunk.View(new byte[] { 1, 2, 3 });
        var pair = serializer.Deserialize<(TensorChunk, string)>(serializer.SerializeToArray((chunk, "after")));
        Assert.Equal([1, 2, 3], pair.Item1.Memory.ToArray());
        Assert.Equal("after", pair.Item2);
    }

    [Fact]
    public void View_TooLong_IsRefused() => Assert.Throws<ArgumentException>(() => TensorChunk.View(new byte[TensorChunk.MaxLength + 1]));

    [Fact]
    public void Dispose_OfAView_LeavesTheOwnersMemory()
    {
        byte[] bytes = [1, 2, 3];
        TensorChunk.View(bytes).Dispose();
        Assert.Equal([1, 2, 3], bytes);
    }
}

public sealed class TensorStoreTests
{
    [Fact]
    public void EqualBytes_AreHeldOnceAndCounted()
    {
        var store = new TensorStore(1000);
        var sha = store.Put([1, 2, 3]);
        Assert.Equal(sha, store.Put([1, 2, 3]));
        Assert.Equal(3, store.Bytes);
        store.Release(sha);
        Assert.True(store.TryGet(sha, out _));
        store.Release(sha);
        Assert.False(store.TryGet(sha, out _));
        Assert.Equal(0, store.Bytes);
    }

    [Fact]
    public void PastTheBound_TheLongestUnusedGo()
    {
        var store = new TensorStore(10);
        var a = store.Put([1, 1, 1, 1]);
        var b = store.Put([2, 2, 2, 2]);
        Assert.True(store.TryGet(a, out _));
        var c = store.Put([3, 3, 3, 3]);
        Assert.True(store.TryGet(a, out _));
        Assert.False(store.TryGet(b, out _));
        Assert.True(store.TryGet(c, out _));
        var large = store.Put(new byte[50]);
        Assert.True(store.TryGet(large, out _));
        Assert.False(store.TryGet(a, out _));
    }

    /// <summary>Parameters that a coordinator offers are there as long as it offers them, however much else passes through.</summary>
    [Fact]
    public void WhatIsPinned_StaysPastTheBound_UntilItIsNot()
    {
        var store = new TensorStore(10);
        var sha = store.Pin([1, 1, 1, 1]);
        Assert.Equal(sha, store.Pin([1, 1, 1, 1]));
        Assert.Equal(0, store.Bytes);
        for (byte i = 2; i < 20; i++)
            store.Put([i, i, i, i]);
        Assert.Equal(8, store.Bytes);
        store.Unpin(sha);
        Assert.True(store.TryGet(sha, out _));
        store.Unpin(sha);
        Assert.False(store.TryGet(sha, out _));
    }

    [Fact]
    public void WhatIsOfferedAndPinned_GoesWhenNobodyWantsIt_AndCountsWhileItMayGo()
    {
        var store = new TensorStore(10);
        var sha = store.Put([1, 1, 1, 1]);
        store.Pin([1, 1, 1, 1]);
        Assert.Equal(0, store.Bytes);
        store.Unpin(sha);
        Assert.Equal(4, store.Bytes);
        store.Pin([1, 1, 1, 1]);
        store.Release(sha);
        // One who was told before that there was no room any more.
        store.Release(sha);
        Assert.True(store.TryGet(sha, out _));
        store.Unpin(sha);
        Assert.False(store.TryGet(sha, out _));
        Assert.Equal(0, store.Bytes);
    }

    /// <summary>A coordinator writes the next version where one lay that nobody reads any more, and only there.</summary>
    [Fact]
    public void WhatIsUnpinned_IsFreeOnceNobodyReadsIt()
    {
        var store = new TensorStore(100);
        Assert.True(Unpinned(_ => { }));
        Assert.True(Unpinned(sha => Read(sha).Dispose()));
        Assert.False(Unpinned(sha => Read(sha)));
        Assert.False(Unpinned(sha => store.TryGet(sha, out _)));
        Assert.False(Unpinned(sha => store.Pin([1, 1])));
        Assert.True(Unpinned(sha =>
        {
            var lease = Read(sha);
            lease.Dispose();
            lease.Dispose();
        }));

        // Equal bytes of two trials: those of the first are read, by whoever asks for either.
        byte[] first = [2, 2], second = [2, 2];
        var same = store.Pin(first);
        store.Pin(second);
        Assert.Same(first, Read(same).Bytes);
        Assert.True(store.Reclaim(same, second));
        Assert.False(store.Reclaim(same, first));

        // A gradient with the bits of the parameters is its worker's.
        byte[] gradient = [3, 3], parameters = [3, 3];
        store.Put(gradient);
        var sha = store.Pin(parameters);
        Assert.True(store.Reclaim(sha, parameters));
        store.Put(parameters);
        Assert.Same(gradient, Read(sha).Bytes);

        bool Unpinned(Action<string> meanwhile)
        {
            byte[] own = [1, 1];
            var pinned = store.Pin(own);
            meanwhile(pinned);
            var isFree = store.Reclaim(pinned, own);
            store.Unpin(pinned);
            return isFree;
        }

        TensorLease Read(string name) => store.TryRead(name, out var lease) ? lease : throw new InvalidOperationException("Not there.");
    }
}
