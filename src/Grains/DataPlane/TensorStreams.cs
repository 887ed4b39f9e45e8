using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Telemetry;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Reads long runs of bytes from other silos over connections of their own, straight into the memory they stay in, taking their SHA-256 on the way.</summary>
internal sealed partial class TensorStreams(int leastBytes, TimeProvider time, AdjointDpmInstruments instruments, ILogger<TensorStreams> logger, TlsFolder? tls = null) : IDisposable
{
    /// <summary>What is hashed at once: still in the processor's cache from having been received.</summary>
    private const int Slice = 1 << 18;

    private const int MostAtOnce = 8;

    private static readonly TimeSpan Connecting = TimeSpan.FromSeconds(3);

    /// <summary>A sender that is alive says something within this time.</summary>
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(10);

    /// <summary>A port that could not be reached is not dialled for this time; meanwhile chunks travel among the messages.</summary>
    private static readonly TimeSpan Rest = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<string, DateTimeOffset> _unreachable = new();
    private readonly SemaphoreSlim _places = new(MostAtOnce);
    private readonly IdleConnections _idle = new(time);

    public void Dispose()
    {
        _places.Dispose();
        _idle.Dispose();
    }

    /// <summary>Whether a run is long enough to be worth a connection.</summary>
    public bool Wants(int length) => length >= leastBytes;

    /// <summary>Reads a run of bytes.</summary>
    /// <param name="silo">Silo that holds them, for messages.</param>
    /// <param name="source">Its grain.</param>
    /// <param name="sha256">Names them.</param>
    /// <param name="offset">Where the run begins.</param>
    /// <param name="into">Where it goes.</param>
    /// <param name="hash">Takes every byte in order.</param>
    /// <param name="cancellationToken">Ends the connection.</param>
    /// <returns>False when the silo gives no leave or its port cannot be reached; then nothing was read.</returns>
    /// <exception cref="TensorTransferException">They did not arrive in full.</exception>
    public async Task<bool> TryReadAsync(string silo, ITensorStoreGrain source, string sha256, long offset, Memory<byte> into, IncrementalHash? hash, CancellationToken cancellationToken)
    {
        TensorGrant? grant;
        await _places.WaitAsync(cancellationToken);
        try
        {
            try
            {
                grant = await source.GrantAsync(sha256, offset, into.Length);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                throw new TensorTransferException($"Silo '{silo}' gave no leave to read {into.Length} bytes at {offset} of {sha256}: {e.Message}", e);
            }
            return grant is not null && await TryReadAsync(silo, grant, into, hash, cancellationToken);
        }
        finally
        {
            _places.Release();
        }
    }

    /// <summary>Reads what a grant gives leave for.</summary>
    internal async Task<bool> TryReadAsync(string silo, TensorGrant grant, Memory<byte> into, IncrementalHash? hash, CancellationToken cancellationToken)
    {
        var at = FormattableString.Invariant($"{grant.Address}:{grant.Port}");
        if (_unreachable.TryGetValue(at, out var until) && time.GetUtcNow() < until)
            return false;
        // From here on off the grain that asked: its other turns go on.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var (received, hashing) = (0, Task.CompletedTask);
        Stream? connection = null;
        try
        {
            // What the silo has closed meanwhile has taken no token.
            while ((connection = _idle.Take(at)) is not null && !await TryAskAsync(connection, silo, grant, patience).ConfigureAwait(false))
                await connection.DisposeAsync().ConfigureAwait(false);
            if (connection is null)
            {
                connection = await DialAsync(silo, grant, at, patience, cancellationToken).ConfigureAwait(false);
                if (connection is null)
                    return false;
                if (!await AskAsync(connection, silo, grant, patience).ConfigureAwait(false))
                    throw new TensorTransferException($"Silo '{silo}' broke off before it answered.");
            }
            for (var hashed = 0; received < into.Length;)
            {
                patience.CancelAfter(Silence);
                var got = await connection.ReadAsync(into[received..Math.Min(into.Length, hashed + Slice)], patience.Token).ConfigureAwait(false);
                if (got == 0)
                    throw new TensorTransferException($"Silo '{silo}' broke off after {received} of {into.Length} bytes.");
                received += got;
                if (received != Math.Min(into.Length, hashed + Slice))
                    continue;
                // While the next slice comes. One after the other: it is one hash.
                if (hash is not null)
                    hashing = HashAsync(hashing, hash, into[hashed..received]);
                hashed = received;
            }
            _idle.Give(at, connection);
            connection = null;
        }
        catch (Exception e) when (e is SocketException or IOException or AuthenticationException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new TensorTransferException($"Silo '{silo}' broke off after {received} of {into.Length} bytes: {(e is not OperationCanceledException ? e.Message : $"nothing came for {Silence.TotalSeconds} s")}", e);
        }
        finally
        {
            // The memory is the caller's again.
            await hashing.ConfigureAwait(false);
            if (connection is not null)
                await connection.DisposeAsync().ConfigureAwait(false);
        }
        instruments.TensorStreamed(into.Length);
        return true;
    }

    private static async Task HashAsync(Task before, IncrementalHash hash, ReadOnlyMemory<byte> slice)
    {
        await before.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        hash.AppendData(slice.Span);
    }

    /// <returns>Null when nothing listens there.</returns>
    private async Task<Stream?> DialAsync(string silo, TensorGrant grant, string at, CancellationTokenSource patience, CancellationToken cancellationToken)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            patience.CancelAfter(Connecting);
            await socket.ConnectAsync(IPAddress.Parse(grant.Address), grant.Port, patience.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (e is not SocketException && (e is not OperationCanceledException || cancellationToken.IsCancellationRequested))
                throw;
            if (!_unreachable.ContainsKey(at))
                LogUnreachable(logger, silo, at, e is SocketException ? e.Message : $"no answer in {Connecting.TotalSeconds} s");
            _unreachable[at] = time.GetUtcNow() + Rest;
            return null;
        }
        var plain = new NetworkStream(socket, ownsSocket: true);
        if (tls is null)
            return plain;
        var secured = new SslStream(plain);
        try
        {
            patience.CancelAfter(Silence);
            await secured.AuthenticateAsClientAsync(tls.ClientOptions(reason => SecureTransport.LogNotASilo(logger, socket.RemoteEndPoint, reason)), patience.Token).ConfigureAwait(false);
            return secured;
        }
        catch
        {
            await secured.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Asks over a connection that was left open; false when it has been closed.</summary>
    private static async Task<bool> TryAskAsync(Stream connection, string silo, TensorGrant grant, CancellationTokenSource patience)
    {
        try
        {
            return await AskAsync(connection, silo, grant, patience).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return false;
        }
    }

    /// <returns>False when the silo closed the connection instead of an answer.</returns>
    private static async Task<bool> AskAsync(Stream connection, string silo, TensorGrant grant, CancellationTokenSource patience)
    {
        patience.CancelAfter(Silence);
        byte[] hello = [.. TensorStreamProtocol.Hello, .. grant.Token];
        await connection.WriteAsync(hello, patience.Token).ConfigureAwait(false);
        var word = new byte[1];
        do
        {
            patience.CancelAfter(Silence);
            if (await connection.ReadAsync(word, patience.Token).ConfigureAwait(false) == 0)
                return false;
        }
        while (word[0] == TensorStreamProtocol.Wait);
        return word[0] == TensorStreamProtocol.Send ? true : throw new TensorTransferException(word[0] switch
        {
            TensorStreamProtocol.Refuse => $"Silo '{silo}' refused the token that it gave out: it was used before, or is too old.",
            TensorStreamProtocol.Gone => $"Silo '{silo}' no longer holds what was to be read.",
            _ => $"What listens at the tensor port of silo '{silo}' is no silo: it answered {word[0]}.",
        });
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The tensor port of silo {Silo} at {At} cannot be reached ({Reason}); its tensors come in chunks among the messages, which is slower. Open Silo:TensorPort between silos.")]
    private static partial void LogUnreachable(ILogger logger, string silo, string at, string reason);
}
