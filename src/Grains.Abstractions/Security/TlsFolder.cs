using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>Certificates of one process: <c>ca.crt</c>, <c>tls.crt</c> and <c>tls.key</c> of a folder, as cert-manager writes and Kubernetes mounts them. Read again when they change.</summary>
/// <remarks>
/// The authority is the cluster's own: whoever holds a certificate of it is believed to be what the certificate's organizational unit
/// says (<see cref="Silo"/> or <see cref="Client"/>), at whatever address. A public authority must not stand in <c>ca.crt</c>.
/// </remarks>
internal sealed class TlsFolder
{
    public const string AuthorityFile = "ca.crt";
    public const string CertificateFile = "tls.crt";
    public const string KeyFile = "tls.key";

    /// <summary>Organizational unit of a silo's certificate.</summary>
    public const string Silo = "silo";

    /// <summary>Organizational unit of a client's certificate.</summary>
    public const string Client = "client";

    private const string OrganizationalUnit = "2.5.4.11";

    private readonly string _folder;
    private readonly bool _needsOwn;
    private readonly TimeProvider _time;
    private readonly Reloaded<Loaded> _loaded;
    private long _refusals;

    private TlsFolder(string folder, bool needsOwn, TimeProvider time, ILogger logger)
    {
        (_folder, _needsOwn, _time) = (folder, needsOwn, time);
        _loaded = new([.. new[] { AuthorityFile, CertificateFile, KeyFile }.Select(name => Path.Combine(folder, name))], Load, time, logger);
    }

    /// <summary>Reads the folder.</summary>
    /// <param name="folder">Folder.</param>
    /// <param name="needsOwn">False for a client that shows no certificate of its own.</param>
    /// <param name="time">Clock that certificates are held against.</param>
    /// <param name="logger">Hears of files that changed.</param>
    /// <exception cref="InvalidDataException">A file is missing or does not hold what it should; the message says which.</exception>
    public static TlsFolder Open(string folder, bool needsOwn, TimeProvider time, ILogger logger) => new(Path.GetFullPath(folder), needsOwn, time, logger);

    /// <summary>Own certificate with the intermediate ones; null when this process shows none.</summary>
    public SslStreamCertificateContext? Own => _loaded.Value.Own;

    /// <summary>Certificates that were refused so far, or missed.</summary>
    public long Refusals => Interlocked.Read(ref _refusals);

    /// <summary>Why a certificate is refused; null when it is one of the cluster's, in force, and of one of these roles.</summary>
    public string? Refusal(X509Certificate? shown, params ReadOnlySpan<string> roles)
    {
        if (shown is null)
            return "it showed no certificate";
        var loaded = _loaded.Value;
        var certificate = shown as X509Certificate2 ?? X509CertificateLoader.LoadCertificate(shown.GetRawCertData());
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.VerificationTime = _time.GetUtcNow().UtcDateTime;
        chain.ChainPolicy.VerificationTimeIgnored = false;
        chain.ChainPolicy.CustomTrustStore.AddRange(loaded.Authorities);
        chain.ChainPolicy.ExtraStore.AddRange(loaded.Intermediates);
        if (!chain.Build(certificate))
        {
            var now = _time.GetUtcNow();
            return now > certificate.NotAfter ? FormattableString.Invariant($"its certificate ran out on {certificate.NotAfter.ToUniversalTime():yyyy-MM-dd HH:mm} UTC")
                : now < certificate.NotBefore ? FormattableString.Invariant($"its certificate begins on {certificate.NotBefore.ToUniversalTime():yyyy-MM-dd HH:mm} UTC only")
                : $"its certificate '{certificate.Subject}' is not of an authority in {AuthorityFile}";
        }
        foreach (var role in roles)
            if (HasRole(certificate, role))
                return null;
        return $"its certificate '{certificate.Subject}' has not the organizational unit {string.Join(" or ", roles!)}";
    }

    /// <summary>Settings of the side that listens.</summary>
    /// <param name="required">Whether the other side must show a certificate.</param>
    /// <param name="refused">Hears why a certificate was refused.</param>
    /// <param name="roles">What it may be.</param>
    public SslServerAuthenticationOptions ServerOptions(bool required, Action<string> refused, params string[] roles) => new()
    {
        ServerCertificateContext = Own,
        ClientCertificateRequired = true,
        CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        RemoteCertificateValidationCallback = (_, certificate, _, _) => (certificate is null && !required) || Accepted(certificate, refused, roles),
    };

    /// <summary>Settings of the side that dials: it speaks to silos only.</summary>
    /// <param name="refused">Hears why a certificate was refused.</param>
    public SslClientAuthenticationOptions ClientOptions(Action<string> refused) => new()
    {
        // No name is asked for: silos are known by their authority, at addresses that come and go.
        TargetHost = "",
        ClientCertificateContext = Own,
        CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        RemoteCertificateValidationCallback = (_, certificate, _, _) => Accepted(certificate, refused, [Silo]),
    };

    /// <summary>Whether the organizational unit of a certificate is this.</summary>
    public static bool HasRole(X509Certificate2 certificate, string role) =>
        certificate.SubjectName.EnumerateRelativeDistinguishedNames().Any(name => !name.HasMultipleElements && name.GetSingleElementType().Value == OrganizationalUnit && name.GetSingleElementValue() == role);

    private bool Accepted(X509Certificate? certificate, Action<string> refused, string[] roles)
    {
        if (Refusal(certificate, roles) is not { } reason)
            return true;
        Interlocked.Increment(ref _refusals);
        refused(reason);
        return false;
    }

    private Loaded Load()
    {
        var authorities = Certificates(AuthorityFile);
        if (!_needsOwn && !File.Exists(Path.Combine(_folder, CertificateFile)))
            return new Loaded(authorities, [], null);
        var chain = Certificates(CertificateFile);
        X509Certificate2 own;
        try
        {
            own = X509Certificate2.CreateFromPem(Text(CertificateFile), Text(KeyFile));
        }
        catch (CryptographicException e)
        {
            throw new InvalidDataException($"'{Path.Combine(_folder, KeyFile)}' is not the private key of {CertificateFile} beside it: {e.Message}", e);
        }
        chain.RemoveAt(0);
        return new Loaded(authorities, chain, SslStreamCertificateContext.Create(own, chain, offline: true));
    }

    private X509Certificate2Collection Certificates(string name)
    {
        var found = new X509Certificate2Collection();
        try
        {
            found.ImportFromPem(Text(name));
        }
        catch (CryptographicException e)
        {
            throw new InvalidDataException($"'{Path.Combine(_folder, name)}' holds no certificate in PEM form: {e.Message}", e);
        }
        return found.Count > 0 ? found : throw new InvalidDataException($"'{Path.Combine(_folder, name)}' holds no certificate in PEM form.");
    }

    private string Text(string name)
    {
        try
        {
            return File.ReadAllText(Path.Combine(_folder, name));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"'{Path.Combine(_folder, name)}' cannot be read: {e.Message} A folder for TLS holds {AuthorityFile}, {CertificateFile} and {KeyFile}; 'adpm certificates DIR' makes them.", e);
        }
    }

    private sealed record Loaded(X509Certificate2Collection Authorities, X509Certificate2Collection Intermediates, SslStreamCertificateContext? Own);
}
