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

    /// <summary>Refuses to listen beyond loopback with the doors open.</summary>
    /// <exception cref="ValidationException">That is what would happen.</exception>
    internal void Demand(IPAddress listen)
    {
        if (IPAddress.IsLoopback(listen) || AllowUnauthenticatedNetwork || TlsFolder is not null)
            return;
        throw new ValidationException("Silo:AdvertisedAddress is not a loopback address, so this silo would listen to the network without authentication and TLS. Name a folder with certificates as Security:TlsFolder ('adpm certificates DIR' makes one), or say Security:AllowUnauthenticatedNetwork=true when nobody but friends can reach its ports.");
    }
}
