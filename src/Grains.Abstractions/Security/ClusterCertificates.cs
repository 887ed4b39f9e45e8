using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace AdjointDpm.Grains.Security;

/// <summary>Makes a private authority and the certificates of silos and clients.</summary>
internal static class ClusterCertificates
{
    private const string AuthorityKeyFile = "ca.key";

    /// <summary>Secret that silos know calls of each other by; the same for all silos.</summary>
    public const string ClusterKeyFile = "cluster.key";

    private static readonly TimeSpan AuthorityLife = TimeSpan.FromDays(3650);

    /// <summary>Fills <c>authority</c>, <c>silo</c> and <c>client</c> below a folder; an authority that is there is used again.</summary>
    /// <returns>The files that were written.</returns>
    /// <exception cref="IOException">Something cannot be written.</exception>
    public static IReadOnlyList<string> Make(string folder, TimeSpan life, DateTimeOffset now)
    {
        var written = new List<string>();
        var home = Path.Combine(folder, "authority");
        using var authority = File.Exists(Path.Combine(home, AuthorityKeyFile)) ? X509Certificate2.CreateFromPemFile(Path.Combine(home, TlsFolder.AuthorityFile), Path.Combine(home, AuthorityKeyFile)) : NewAuthority(now);
        if (!File.Exists(Path.Combine(home, AuthorityKeyFile)))
        {
            Write(written, home, TlsFolder.AuthorityFile, authority.ExportCertificatePem(), secret: false);
            Write(written, home, AuthorityKeyFile, authority.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(), secret: true);
        }
        foreach (var role in (ReadOnlySpan<string>)[TlsFolder.Silo, TlsFolder.Client])
        {
            var (certificate, key) = Issue(authority, role, now, now + life);
            var place = Path.Combine(folder, role);
            Write(written, place, TlsFolder.AuthorityFile, authority.ExportCertificatePem(), secret: false);
            Write(written, place, TlsFolder.KeyFile, key, secret: true);
            Write(written, place, TlsFolder.CertificateFile, certificate, secret: false);
        }
        var clusterKey = Path.Combine(folder, TlsFolder.Silo, ClusterKeyFile);
        if (!File.Exists(clusterKey))
            Write(written, Path.Combine(folder, TlsFolder.Silo), ClusterKeyFile, Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32)), secret: true);
        return written;
    }

    /// <summary>A new authority of its own.</summary>
    public static X509Certificate2 NewAuthority(DateTimeOffset now)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=AdjointDpm authority", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(now.AddMinutes(-5), now + AuthorityLife);
    }

    /// <summary>A certificate of a role and its key, both as PEM.</summary>
    public static (string Certificate, string Key) Issue(X509Certificate2 authority, string role, DateTimeOffset now, DateTimeOffset until)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=adjointdpm-{role}, OU={role}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1"), new Oid("1.3.6.1.5.5.7.3.2")], false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        var names = new SubjectAlternativeNameBuilder();
        // Programs that hold a certificate against a name, such as Prometheus and ingresses, are told to ask for this one at every silo.
        names.AddDnsName($"adjointdpm-{role}");
        names.AddDnsName("localhost");
        names.AddIpAddress(System.Net.IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        var from = now.AddMinutes(-5) < authority.NotBefore ? authority.NotBefore : now.AddMinutes(-5);
        using var certificate = request.Create(authority, from, until > authority.NotAfter ? authority.NotAfter : until, RandomNumberGenerator.GetBytes(16));
        return (certificate.ExportCertificatePem(), key.ExportPkcs8PrivateKeyPem());
    }

    private static void Write(List<string> written, string folder, string name, string text, bool secret)
    {
        var path = Path.Combine(folder, name);
        SecretFile.Write(path, text + "\n", secret);
        written.Add(path);
    }
}
