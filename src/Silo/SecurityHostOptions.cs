using System.ComponentModel.DataAnnotations;
using System.Net;

namespace AdjointDpm.Silo;

/// <summary>Section <c>Security</c>: who may speak with this silo.</summary>
public sealed class SecurityHostOptions
{
    public const string Section = "Security";

    /// <summary>Folder with <c>ca.crt</c>, <c>tls.crt</c> and <c>tls.key</c>: TLS on every port, with certificates of the cluster's own authority on both sides. Default: none.</summary>
    public string? TlsFolder { get; set; }

    /// <summary>Says in words that anybody who reaches this machine may do everything: without it a silo that has neither users nor certificates listens on loopback only.</summary>
    public bool AllowUnauthenticatedNetwork { get; set; }

    /// <summary>File with users, their projects, roles and hashed tokens ('adpm users add' writes it): every call from outside and every HTTP request but health then needs one. Default: none.</summary>
    public string? UsersFile { get; set; }

    /// <summary>Secret that silos know each other's calls by, the same on all of them ('adpm certificates' makes it). Needed with users.</summary>
    public string? ClusterKeyFile { get; set; }

    /// <summary>Issuer of JSON web tokens that the HTTP port takes beside users' tokens, such as https://login.example/realms/lab; its keys come from its OpenID Connect discovery. Needs a users file, which may be empty. Default: none.</summary>
    public string? OidcAuthority { get; set; }

    /// <summary>Audience that such tokens must be for.</summary>
    public string? OidcAudience { get; set; }

    /// <summary>Claim with the user's name.</summary>
    [Required]
    public string OidcNameClaim { get; set; } = "sub";

    /// <summary>Claim with the project.</summary>
    [Required]
    public string OidcProjectClaim { get; set; } = "adjointdpm_project";

    /// <summary>Lets the issuer name project <c>*</c>, which is all projects. Without it such a token is refused: many issuers let people edit claims of their own.</summary>
    public bool OidcAllProjects { get; set; }

    /// <summary>Claim with the role: view, submit or admin.</summary>
    [Required]
    public string OidcRoleClaim { get; set; } = "adjointdpm_role";

    /// <summary>Whether clients must show a certificate of the cluster's authority. False: a token alone lets them in.</summary>
    public bool RequireClientCertificate { get; set; } = true;

    /// <summary>Whether <c>/metrics</c> answers without user or certificate.</summary>
    public bool OpenMetrics { get; set; }

    /// <summary>Folders that paths in specs of submitters must lie in; admins may name any. Default: none.</summary>
    public IList<string> Roots { get; } = [];

    /// <summary>Sidecars that specs of submitters may name, such as http://rewards:8900. Default: none.</summary>
    public IList<string> Sidecars { get; } = [];

    /// <summary>Lets submitters name TorchScript, which runs its author's code on the silos.</summary>
    public bool AllowTorchScript { get; set; }

    /// <summary>Longest spec in bytes.</summary>
    [Range(1024, 16 << 20)]
    public int MaxSpecBytes { get; set; } = 1 << 20;

    /// <summary>Folder of the audit log, one file a silo. Default: <c>audit</c> in the data folder.</summary>
    public string? AuditFolder { get; set; }

    /// <summary>Refuses to listen beyond loopback with the doors open.</summary>
    /// <exception cref="ValidationException">That is what would happen.</exception>
    internal void Demand(IPAddress listen)
    {
        if (UsersFile is not null && ClusterKeyFile is null)
            throw new ValidationException("Security:UsersFile is set, but Security:ClusterKeyFile is not: without it a client could pass for a silo. 'adpm certificates DIR' makes one as silo/cluster.key; all silos need the same.");
        if (OidcAuthority is not null && (UsersFile is null || OidcAudience is null))
            throw new ValidationException("Security:OidcAuthority needs Security:OidcAudience, so that tokens for other services are refused, and Security:UsersFile, which may be empty: {}.");
        if (OidcAuthority is not null && !(Uri.TryCreate(OidcAuthority, UriKind.Absolute, out var authority) && (authority.Scheme == Uri.UriSchemeHttps || authority.IsLoopback)))
            throw new ValidationException($"Security:OidcAuthority must be an https address, but is '{OidcAuthority}'.");
        if (!RequireClientCertificate && UsersFile is null && TlsFolder is not null && !AllowUnauthenticatedNetwork)
            throw new ValidationException("Security:RequireClientCertificate is false and there is no Security:UsersFile, so anybody could come in. Set one of them.");
        if (Sidecars.FirstOrDefault(address => !Uri.TryCreate(address, UriKind.Absolute, out _)) is { } odd)
            throw new ValidationException($"Security:Sidecars has '{odd}', which is no address. Give one such as http://rewards:8900.");
        if (IPAddress.IsLoopback(listen) || AllowUnauthenticatedNetwork || TlsFolder is not null)
            return;
        throw new ValidationException("Silo:AdvertisedAddress is not a loopback address, so this silo would listen to the network without authentication and TLS. Name a folder with certificates as Security:TlsFolder ('adpm certificates DIR' makes one), or say Security:AllowUnauthenticatedNetwork=true when nobody but friends can reach its ports.");
    }
}
