using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Grains.Tests.DataPlane;

/// <summary>Tensors over real connections on loopback, between a store and a transfer of two silos whose grains are called directly.</summary>
public sealed class TensorStreamTests : IDisposable
{
    private static readonly ServiceProvider Services = new ServiceCollection().AddMetrics().BuildServiceProvider();

    private readonly Clock _clock = new();
    private readonly TensorStore _store = new(1 << 28);
    private readonly TensorStreamServer _server;
    private readonly Source _source;
    private readonly Lines _lines = new();
    private readonly AdjointDpmInstruments _instruments = new(Services.GetRequiredService<IMeterFactory>());
    private readonly TensorStreams _streams;
    private readonly TensorTransfer _transfer;

    public TensorStreamTests()
    {
        _server = new TensorStreamServer(_store, _clock, NullLogger<TensorStreamServer>.Instance);
        _server.Listen(new IPEndPoint(IPAddress.Loopback, 0), IPAddress.Loopback);
        _source = new Source(_store, _server);
        _streams = new TensorStreams(1000, _clock, _instruments, _lines);
        _transfer = new TensorTransfer(new TensorStore(1 << 20), OneGrain.Factory(_source), new HereSilo(), Background.ThreadPool, _streams);
    }

    [Theory]
    [InlineData(1000)]
    [InlineData(300_001)]
    [InlineData(20_000_000)]
    public async Task Fetch_OverAConnection_BringsTheBytes(int length)
    {
        var bytes = Bytes(length);
        var fetched = await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken);
        Assert.Equal(bytes, fetched);
        Assert.Equal(0, _source.Chunks);
    }

    [Fact]
    public async Task Fetch_OfParts_OnSeveralWays_IsCheckedAsAWhole()
    {
        // A part over a connection, one that is too short for it, and one more over a connection.
        byte[][] parts = [Bytes(5000), Bytes(900), Bytes(70_000)];
        byte[] whole = [.. parts.SelectMany(part => part)];
        var reference = new TensorReference(TensorReference.HashOf(whole), whole.Length, "") { Parts = [.. parts.Select(Offer)] };
        Assert.Equal(whole, await _transfer.FetchAsync(reference, TestContext.Current.CancellationToken));
        Assert.Equal(1, _source.Chunks);
        var wrong = reference with { Sha256 = new string('0', 64) };
        await Assert.ThrowsAsync<TensorTransferException>(() => _transfer.FetchAsync(wrong, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task FetchPiece_BringsThatPieceIntoNumbers()
    {
        var bytes = Bytes(40_000);
        var reference = Offer(bytes) with { PieceBytes = 16_000, Pieces = [.. bytes.Chunk(16_000).Select(piece => TensorReference.HashOf(piece))] };
        var numbers = new float[2000];
        await _transfer.FetchPieceAsync(reference, 2, new FloatBytes(numbers).Memory, TestContext.Current.CancellationToken);
        Assert.Equal(bytes[32_000..], System.Runtime.InteropServices.MemoryMarshal.AsBytes(numbers.AsSpan()).ToArray());
        Assert.Equal(0, _source.Chunks);
    }

    [Fact]
    public async Task ManyAtOnce_AllArrive()
    {
        var blobs = Enumerable.Range(0, 60).Select(i => Bytes(200_000 + i)).ToArray();
        var fetched = await Task.WhenAll(blobs.Select(blob => _transfer.FetchAsync(Offer(blob), TestContext.Current.CancellationToken)));
        Assert.All(blobs.Zip(fetched), pair => Assert.Equal(pair.First, pair.Second));
        Assert.Equal(0, _source.Chunks);
    }

    [Fact]
    public async Task Token_OfOnesOwn_OrUsedBefore_OrOld_IsRefused()
    {
        var sha = _store.Put(Bytes(5000));
        var grant = _server.Grant(sha, 0, 5000)!;
        await RefusedAsync(grant with { Token = new byte[TensorGrant.TokenLength] });
        Assert.True(await ReadAsync(grant));
        await RefusedAsync(grant);
        var old = _server.Grant(sha, 0, 5000)!;
        _clock.Add(TimeSpan.FromSeconds(31));
        await RefusedAsync(old);
        Assert.Null(_server.Grant(sha, 1, 5000));
        Assert.Null(_server.Grant(sha, -1, 10));
        Assert.Null(_server.Grant(new string('0', 64), 0, 10));

        async Task RefusedAsync(TensorGrant refused) =>
            Assert.Contains("refused the token", (await Assert.ThrowsAsync<TensorTransferException>(() => ReadAsync(refused))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatIsDroppedAfterTheGrant_IsSaidToBeGone()
    {
        var sha = _store.Put(Bytes(5000));
        var grant = _server.Grant(sha, 0, 5000)!;
        _store.Release(sha);
        Assert.Contains("no longer holds", (await Assert.ThrowsAsync<TensorTransferException>(() => ReadAsync(grant))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TruncatedStream_IsATransferThatFailed()
    {
        using var peer = new Peer([TensorStreamProtocol.Wait, TensorStreamProtocol.Send, .. Bytes(3000)]);
        _source.Grant = peer.Grant;
        var thrown = await Assert.ThrowsAsync<TensorTransferException>(() => _transfer.FetchAsync(Offer(Bytes(5000)), TestContext.Current.CancellationToken));
        Assert.Contains("broke off after 3000 of 5000 bytes", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OtherBytesOfTheSameLength_AreATransferThatFailed()
    {
        using var peer = new Peer([TensorStreamProtocol.Send, .. new byte[5000]]);
        _source.Grant = peer.Grant;
        var thrown = await Assert.ThrowsAsync<TensorTransferException>(() => _transfer.FetchAsync(Offer(Bytes(5000)), TestContext.Current.CancellationToken));
        Assert.Contains("was promised", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatListensThereIsNoSilo_IsATransferThatFailed()
    {
        using var peer = new Peer("HTTP/1.1 400 Bad Request\r\n\r\n"u8.ToArray());
        _source.Grant = peer.Grant;
        var thrown = await Assert.ThrowsAsync<TensorTransferException>(() => _transfer.FetchAsync(Offer(Bytes(5000)), TestContext.Current.CancellationToken));
        Assert.Contains("is no silo", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task PortThatCannotBeReached_GivesChunks_AndIsNamedOnce()
    {
        using (var listener = new TcpListener(IPAddress.Loopback, 0))
        {
            listener.Start();
            _source.Grant = new TensorGrant("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port, new byte[TensorGrant.TokenLength]);
        }
        var bytes = Bytes(2_500_000);
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(bytes, await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken));
            _clock.Add(TimeSpan.FromSeconds(40));
        }
        Assert.Equal(9, _source.Chunks);
        Assert.Contains("cannot be reached", Assert.Single(_lines), StringComparison.Ordinal);
        // It is tried again now and then, and taken when it is there.
        _source.Grant = null;
        Assert.Equal(bytes, await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken));
        Assert.Equal(9, _source.Chunks);
    }

    [Fact]
    public async Task WhoSaysNothing_IsShownTheDoor_AndOthersAreServedMeanwhile()
    {
        using var silent = new TcpClient();
        await silent.ConnectAsync(IPAddress.Loopback, _server.Port, TestContext.Current.CancellationToken);
        var bytes = Bytes(5000);
        Assert.Equal(bytes, await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken));
        Assert.Equal(0, await silent.GetStream().ReadAsync(new byte[1], TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task ConnectionServesOneRunAfterTheOther_AnotherIsMadeWhenItIsClosedOrOld()
    {
        var bytes = Bytes(400_000);
        using var peer = new Peer([TensorStreamProtocol.Send, .. bytes], times: 2);
        _source.Grant = peer.Grant;
        foreach (var connections in new[] { 1, 1, 2, 2, 3 })
            await FetchedOverAsync(connections);
        _clock.Add(IdleConnections.Life + TimeSpan.FromSeconds(1));
        await FetchedOverAsync(4);

        async Task FetchedOverAsync(int connections)
        {
            Assert.Equal(bytes, await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken));
            Assert.Equal(connections, peer.Connections);
        }
    }

    [Fact]
    public async Task ManyRunsOverTheSameConnections_AreTheirOwn()
    {
        foreach (var length in Enumerable.Range(0, 40).Select(i => 1000 + (i * 37_003)))
        {
            var bytes = Bytes(length);
            Assert.Equal(bytes, await _transfer.FetchAsync(Offer(bytes), TestContext.Current.CancellationToken));
        }
        Assert.Equal(0, _source.Chunks);
    }

    [Fact]
    public void PortThatIsTaken_IsNamedWithItsSetting()
    {
        using var second = new TensorStreamServer(_store, _clock, NullLogger<TensorStreamServer>.Instance);
        var thrown = Assert.Throws<IOException>(() => second.Listen(new IPEndPoint(IPAddress.Loopback, _server.Port), IPAddress.Loopback));
        Assert.Contains("Silo:TensorPort", thrown.Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _server.Dispose();
        _streams.Dispose();
        _instruments.Dispose();
    }

    private Task<bool> ReadAsync(TensorGrant grant) => _streams.TryReadAsync("there", grant, new byte[5000], null, TestContext.Current.CancellationToken);

    private TensorReference Offer(byte[] bytes) => new(_store.Put(bytes), bytes.Length, "there");

    private static byte[] Bytes(int length)
    {
        var bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    private sealed class Source(TensorStore store, TensorStreamServer server) : ITensorStoreGrain
    {
        private int _chunks;

        public int Chunks => _chunks;

        /// <summary>Given in the place of the server's.</summary>
        public TensorGrant? Grant { get; set; }

        public Task<TensorChunk?> ReadAsync(string sha256, long offset, int length)
        {
            Interlocked.Increment(ref _chunks);
            return Task.FromResult<TensorChunk?>(store.TryGet(sha256, out var bytes) ? TensorChunk.View(bytes.AsMemory((int)offset, length)) : null);
        }

        public Task<TensorGrant?> GrantAsync(string sha256, long offset, long length) => Task.FromResult(Grant ?? server.Grant(sha256, offset, length));
    }

    /// <summary>Listens, answers whatever is said to it with the same bytes, so often, and closes.</summary>
    private sealed class Peer : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly byte[] _answer;
        private readonly int _times;
        private int _connections;

        public Peer(byte[] answer, int times = 1)
        {
            (_answer, _times) = (answer, times);
            _listener.Start();
            _ = AcceptAsync();
        }

        public TensorGrant Grant => new("127.0.0.1", ((IPEndPoint)_listener.LocalEndpoint).Port, new byte[TensorGrant.TokenLength]);

        /// <summary>How many there were.</summary>
        public int Connections => Volatile.Read(ref _connections);

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync()
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync();
                Interlocked.Increment(ref _connections);
                _ = AnswerAsync(client);
            }
        }

        private async Task AnswerAsync(TcpClient client)
        {
            using (client)
                for (var i = 0; i < _times; i++)
                {
                    await client.GetStream().ReadExactlyAsync(new byte[TensorStreamProtocol.Hello.Length + TensorGrant.TokenLength]);
                    await client.GetStream().WriteAsync(_answer);
                }
        }
    }

    private sealed class Clock : TimeProvider
    {
        private DateTimeOffset _now = DateTimeOffset.UnixEpoch;

        public void Add(TimeSpan time) => _now += time;

        public override DateTimeOffset GetUtcNow() => _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now.Ticks;
    }

    private sealed class Lines : List<string>, ILogger<TensorStreams>
    {
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Add(formatter(state, exception));
    }
}
