using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>What a client shows: a certificate, a token, both or neither.</summary>
internal sealed class ClientCredentials : IOutgoingGrainCallFilter
{
    /// <summary>Entry of the request context that a call from outside carries its token in.</summary>
    public const string TokenEntry = "adjointdpm.token";

    private readonly string? _tokenFile;

    private ClientCredentials(TlsFolder? tls, string? tokenFile) => (Tls, _tokenFile) = (tls, tokenFile);

    /// <summary>Certificates; null: no TLS.</summary>
    public TlsFolder? Tls { get; }

    public bool IsEmpty => Tls is null && _tokenFile is null;

    /// <summary>Opens what is given.</summary>
    /// <exception cref="InvalidDataException">A file does not hold what it should.</exception>
    public static ClientCredentials Open(string? tlsFolder, string? tokenFile, TimeProvider time, ILogger logger)
    {
        var opened = new ClientCredentials(tlsFolder is null ? null : TlsFolder.Open(tlsFolder, needsOwn: false, time, logger), tokenFile);
        opened.Token();
        return opened;
    }

    /// <summary>The client's side of a greeting.</summary>
    /// <exception cref="UnauthorizedAccessException">The gateway refuses; the message says why.</exception>
    public Task GreetAsync(Stream stream, CancellationToken cancellationToken) => Greeting.SayAsync(stream, Token(), cancellationToken);

    /// <summary>Tries them at a gateway, so that a refusal is one sentence: Orleans would go on knocking.</summary>
    /// <exception cref="UnauthorizedAccessException">The gateway refuses; the message says why.</exception>
    public async Task TryAsync(Socket gateway, CancellationToken cancellationToken)
    {
        if (IsEmpty)
            return;
        await using var plain = new NetworkStream(gateway, ownsSocket: false);
        await using var secured = Tls is null ? null : new SslStream(plain);
        var reason = "";
        try
        {
            if (secured is not null)
                await secured.AuthenticateAsClientAsync(Tls!.ClientOptions(why => reason = $" What answers is no silo of this cluster: {why}."), cancellationToken);
            await GreetAsync((Stream?)secured ?? plain, cancellationToken);
        }
        catch (Exception e) when (e is IOException or AuthenticationException)
        {
            throw new AuthenticationException(reason.Length > 0 ? reason.Trim() : $"it broke off when it was shown {(Tls?.Own is null ? "no certificate" : "the certificate of --tls-folder")}{(_tokenFile is null ? " and no token" : "")}. The silo's log says why", e);
        }
    }

    public Task Invoke(IOutgoingGrainCallContext context)
    {
        if (Token() is { } token)
            RequestContext.Set(TokenEntry, token);
        return context.Invoke();
    }

    /// <summary>Read anew each time, because tokens are changed while clients run; the file is small.</summary>
    private string? Token()
    {
        if (_tokenFile is null)
            return null;
        try
        {
            return File.ReadAllText(_tokenFile).Trim() is { Length: > 0 and <= Greeting.MostTokenBytes } token ? token : throw new InvalidDataException($"'{_tokenFile}' holds no token. It is one line of text.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"The token file '{_tokenFile}' cannot be read: {e.Message}", e);
        }
    }
}
