using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Sends tensors of this silo's <see cref="TensorStore"/> over connections of their own, straight from its memory, to whoever shows a token that the silo's grain has given out.</summary>
/// <remarks>A token is 256 random bits, good for one run of bytes, once, for half a minute. A slow receiver slows its own connection only: nothing is buffered here.</remarks>
internal sealed partial class TensorStreamServer(TensorStore store, TimeProvider time, ILogger<TensorStreamServer> logger, TlsFolder? tls = null) : IDisposable
{
    private const int MostConnections = 512;
    private const int MostServed = 16;
    private const int Slice = 1 << 20;

    private static readonly TimeSpan TokenLife = TimeSpan.FromSeconds(30);

    /// <summary>For those who connect and do not say what they want.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>For those who take nothing of what they wanted.</summary>
    private static readonly TimeSpan Stalled = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan SayWait = TimeSpan.FromSeconds(2);

    private readonly ConcurrentDictionary<string, Granted> _granted = new();
    private readonly SemaphoreSlim _connections = new(MostConnections);
    private readonly SemaphoreSlim _served = new(MostServed);
    private readonly CancellationTokenSource _stop = new();
    private Socket? _listener;
    private string? _advertised;

    /// <summary>Port that is listened on; 0 when none is.</summary>
    public int Port { get; private set; }

    /// <exception cref="IOException">The port is taken.</exception>
    public void Listen(IPEndPoint at, IPAddress advertised)
    {
        var listener = new Socket(at.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            listener.Bind(at);
            listener.Listen(512);
        }
        catch (SocketException e)
        {
            listener.Dispose();
            throw new IOException($"The tensor port {at} cannot be listened on: {e.Message}. Give another as Silo:TensorPort, or 0 for a free one.", e);
        }
        (_listener, _advertised, Port) = (listener, advertised.ToString(), ((IPEndPoint)listener.LocalEndPoint!).Port);
        _ = Task.Run(() => AcceptAsync(listener));
    }

    /// <summary>Leave to read a run of bytes; null when this silo does not listen or does not hold them.</summary>
    public TensorGrant? Grant(string sha256, long offset, long length)
    {
        if (_advertised is null || store.LengthOf(sha256) is not { } held || !IsWithin(held, offset, length))
            return null;
        // Not the time of day, which may jump.
        var now = time.GetTimestamp();
        foreach (var (old, granted) in _granted)
            if (time.GetElapsedTime(granted.Since, now) > TokenLife)
                _granted.TryRemove(old, out _);
        var token = RandomNumberGenerator.GetBytes(TensorGrant.TokenLength);
        _granted[Convert.ToHexString(token)] = new Granted(sha256, offset, length, now);
        return new TensorGrant(_advertised, Port, token);
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener?.Dispose();
    }

    private static bool IsWithin(int held, long offset, long length) => offset >= 0 && length >= 0 && offset <= held - length;

    private async Task AcceptAsync(Socket listener)
    {
        try
        {
            while (true)
            {
                await _connections.WaitAsync(_stop.Token);
                try
                {
                    _ = ServeAsync(await listener.AcceptAsync(_stop.Token));
                }
                catch (SocketException e)
                {
                    // One connection that broke off before it was taken, or no file handles left for now.
                    _connections.Release();
                    LogNotAccepted(logger, e.Message);
                    await Task.Delay(TimeSpan.FromMilliseconds(100), time, _stop.Token);
                }
            }
        }
        catch (Exception e) when (_stop.IsCancellationRequested && e is OperationCanceledException or ObjectDisposedException)
        {
            // The silo ends.
        }
    }

    private async Task ServeAsync(Socket peer)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        try
        {
            await using var plain = new NetworkStream(peer, ownsSocket: true);
            peer.NoDelay = true;
            patience.CancelAfter(Patience);
            await using var secured = tls is null ? null : new SslStream(plain);
            if (secured is not null)
                await secured.AuthenticateAsServerAsync(tls!.ServerOptions(required: true, reason => SecureTransport.LogRefused(logger, "tensor", peer.RemoteEndPoint, reason), TlsFolder.Silo), patience.Token);
            var stream = secured ?? (Stream)plain;
            // One run after the other, until the receiver closes: closing first could cut off what is still on its way.
            while (await GrantedAsync(stream, peer, patience.Token) is { } granted)
            {
                patience.CancelAfter(Timeout.InfiniteTimeSpan);
                if (!await TurnAsync(stream, granted, patience))
                    return;
            }
        }
        catch (Exception e) when (e is IOException or AuthenticationException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // The receiver is gone, or takes nothing: it knows how much it has.
            LogBrokenOff(logger, e.Message);
        }
        finally
        {
            _connections.Release();
        }
    }

    /// <returns>What the token that the receiver shows is for; null when there is none, or none of this silo's.</returns>
    private async Task<Granted?> GrantedAsync(Stream stream, Socket peer, CancellationToken cancellationToken)
    {
        var hello = new byte[TensorStreamProtocol.Hello.Length + TensorGrant.TokenLength];
        if (await stream.ReadAtLeastAsync(hello, hello.Length, throwOnEndOfStream: false, cancellationToken) < hello.Length)
            return null;
        var known = _granted.TryRemove(Convert.ToHexString(hello.AsSpan(TensorStreamProtocol.Hello.Length)), out var granted)
            && hello.AsSpan().StartsWith(TensorStreamProtocol.Hello) && time.GetElapsedTime(granted!.Since) <= TokenLife;
        if (known)
            return granted;
        LogRefused(logger, peer.RemoteEndPoint);
        await SayAsync(stream, TensorStreamProtocol.Refuse, cancellationToken);
        return null;
    }

    /// <summary>Waits for one of the places to send from; says so meanwhile, so that the receiver does not think that this silo hangs.</summary>
    /// <returns>False when there was nothing to send any more.</returns>
    private async Task<bool> TurnAsync(Stream peer, Granted granted, CancellationTokenSource patience)
    {
        var turn = _served.WaitAsync(patience.Token);
        try
        {
            while (await Task.WhenAny(turn, Task.Delay(SayWait, time, patience.Token)) != turn)
                await SayAsync(peer, TensorStreamProtocol.Wait, patience.Token);
            await turn;
            return await SendAsync(peer, granted, patience);
        }
        finally
        {
            if (!turn.IsCompleted)
                await patience.CancelAsync();
            await turn.ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            if (turn.IsCompletedSuccessfully)
                _served.Release();
        }
    }

    private async Task<bool> SendAsync(Stream peer, Granted granted, CancellationTokenSource patience)
    {
        patience.CancelAfter(Stalled);
        if (!store.TryRead(granted.Sha256, out var lease))
        {
            await SayAsync(peer, TensorStreamProtocol.Gone, patience.Token);
            return false;
        }
        using var reading = lease;
        await SayAsync(peer, TensorStreamProtocol.Send, patience.Token);
        var rest = lease.Bytes.AsMemory((int)granted.Offset, (int)granted.Length);
        while (rest.Length > 0)
        {
            patience.CancelAfter(Stalled);
            var slice = Math.Min(Slice, rest.Length);
            await peer.WriteAsync(rest[..slice], patience.Token);
            rest = rest[slice..];
        }
        // For the next token, or the end.
        patience.CancelAfter(Stalled);
        return true;
    }

    private static async Task SayAsync(Stream peer, byte word, CancellationToken cancellationToken) => await peer.WriteAsync(new[] { word }, cancellationToken);

    private sealed record Granted(string Sha256, long Offset, long Length, long Since);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A connection to the tensor port from {Peer} was refused: its token is not one of this silo's, or was used, or is over half a minute old.")]
    private static partial void LogRefused(ILogger logger, EndPoint? peer);

    [LoggerMessage(Level = LogLevel.Debug, Message = "A tensor was not sent to its end: {Reason}")]
    private static partial void LogBrokenOff(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A connection to the tensor port was not accepted: {Reason}")]
    private static partial void LogNotAccepted(ILogger logger, string reason);
}
