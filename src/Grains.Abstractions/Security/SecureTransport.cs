using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>TLS and the greeting for Orleans' connections: what comes before the first message.</summary>
internal static partial class SecureTransport
{
    /// <summary>For handshake and greeting together.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>Connections of the side that listens.</summary>
    /// <param name="next">The messages.</param>
    /// <param name="tls">Certificates; null: none.</param>
    /// <param name="required">Whether the other side must show a certificate.</param>
    /// <param name="roles">What it may be.</param>
    /// <param name="greet">Hears the greeting and answers it; false ends the connection. Null: no greeting.</param>
    /// <param name="port">Name of the port, for the log.</param>
    /// <param name="logger">Hears who was refused and why.</param>
    public static ConnectionDelegate Listen(ConnectionDelegate next, TlsFolder? tls, bool required, string[] roles, Func<Stream, EndPoint?, CancellationToken, Task<bool>>? greet, string port, ILogger logger) =>
        connection => RunAsync(connection, next, async (stream, cancellationToken) =>
        {
            if (stream is SslStream secured)
                await secured.AuthenticateAsServerAsync(tls!.ServerOptions(required, reason => LogRefused(logger, port, connection.RemoteEndPoint, reason), roles), cancellationToken);
            return greet is null || await greet(stream, connection.RemoteEndPoint, cancellationToken);
        }, tls is not null, e => LogFailed(logger, port, connection.RemoteEndPoint, e.Message), rethrow: false);

    /// <summary>Connections of the side that dials.</summary>
    /// <param name="next">The messages.</param>
    /// <param name="tls">Certificates; null: none.</param>
    /// <param name="greet">Says the greeting; null: none.</param>
    /// <param name="logger">Hears what was refused and why.</param>
    public static ConnectionDelegate Dial(ConnectionDelegate next, TlsFolder? tls, Func<Stream, CancellationToken, Task>? greet, ILogger logger) =>
        connection => RunAsync(connection, next, async (stream, cancellationToken) =>
        {
            if (stream is SslStream secured)
                await secured.AuthenticateAsClientAsync(tls!.ClientOptions(reason => LogNotASilo(logger, connection.RemoteEndPoint, reason)), cancellationToken);
            if (greet is not null)
                await greet(stream, cancellationToken);
            return true;
        }, tls is not null, e => LogNotConnected(logger, connection.RemoteEndPoint, e.Message), rethrow: true);

    private static async Task RunAsync(ConnectionContext connection, ConnectionDelegate next, Func<Stream, CancellationToken, Task<bool>> begin, bool tls, Action<Exception> failed, bool rethrow)
    {
        var plain = connection.Transport;
        await using var stream = tls ? new SslStream(new DuplexStream(plain), leaveInnerStreamOpen: false) : (Stream)new DuplexStream(plain);
        using (var patience = CancellationTokenSource.CreateLinkedTokenSource(connection.ConnectionClosed))
        {
            patience.CancelAfter(Patience);
            try
            {
                if (!await begin(stream, patience.Token))
                    return;
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or System.Security.Authentication.AuthenticationException or UnauthorizedAccessException or ObjectDisposedException or InvalidOperationException)
            {
                failed(e);
                connection.Abort();
                if (rethrow)
                    throw;
                return;
            }
        }
        if (!tls)
        {
            await next(connection);
            return;
        }
        var secured = new Both(PipeReader.Create(stream, new StreamPipeReaderOptions(bufferSize: 1 << 16, leaveOpen: true)), PipeWriter.Create(stream, new StreamPipeWriterOptions(leaveOpen: true)));
        connection.Transport = secured;
        try
        {
            await next(connection);
        }
        finally
        {
            await secured.Input.CompleteAsync();
            await secured.Output.CompleteAsync();
            // The transport ends its own pipes.
            connection.Transport = plain;
        }
    }

    private sealed record Both(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    [LoggerMessage(Level = LogLevel.Warning, Message = "A connection to the {Port} port from {Peer} was refused: {Reason}.")]
    public static partial void LogRefused(ILogger logger, string port, EndPoint? peer, string reason);

    [LoggerMessage(Level = LogLevel.Debug, Message = "A connection to the {Port} port from {Peer} did not come to its first message: {Reason}")]
    private static partial void LogFailed(ILogger logger, string port, EndPoint? peer, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What answers at {Peer} is no silo of this cluster: {Reason}.")]
    public static partial void LogNotASilo(ILogger logger, EndPoint? peer, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The connection to {Peer} was not made: {Reason}")]
    private static partial void LogNotConnected(ILogger logger, EndPoint? peer, string reason);
}
