using System.ComponentModel.DataAnnotations;
using System.Net;
using System.Net.Sockets;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Silo;

/// <summary>Section <c>Silo</c>: this process.</summary>
public sealed class SiloHostOptions : IValidatableObject
{
    public const string Section = "Silo";

    /// <summary>Name, unique in the cluster and stable over restarts; workers are called by it. Default: POD_NAME, else the machine's name.</summary>
    public string Name { get; set; } = Environment.GetEnvironmentVariable("POD_NAME") ?? Environment.MachineName.ToLowerInvariant();

    /// <summary>Port of silo-to-silo traffic; 0 picks a free one.</summary>
    [Range(0, 65535)]
    public int SiloPort { get; set; } = AdjointDpmCluster.DefaultSiloPort;

    /// <summary>Port that clients connect to; 0 picks a free one.</summary>
    [Range(0, 65535)]
    public int GatewayPort { get; set; } = AdjointDpmCluster.DefaultGatewayPort;

    /// <summary>Port of metrics and health; 0 picks a free one.</summary>
    [Range(0, 65535)]
    public int HttpPort { get; set; } = AdjointDpmCluster.DefaultHttpPort;

    /// <summary>Port that other silos fetch large tensors from; 0 picks a free one.</summary>
    [Range(0, 65535)]
    public int TensorPort { get; set; } = AdjointDpmCluster.DefaultTensorPort;

    /// <summary>State, working files and results. Silos of one cluster share it. Default: <c>data</c> in the current folder.</summary>
    [Required]
    public string DataFolder { get; set; } = "data";

    /// <summary>Address that others dial. Default: POD_IP, else 127.0.0.1, and then nothing but this machine can connect.</summary>
    [Required]
    public string AdvertisedAddress { get; set; } = Environment.GetEnvironmentVariable("POD_IP") ?? IPAddress.Loopback.ToString();

    /// <summary>The silo stops when this process ends. Default: none.</summary>
    [Range(1, int.MaxValue)]
    public int? ParentProcessId { get; set; }

    /// <summary>When that process ends, the silo first finishes the experiments that are under way. Default: false.</summary>
    public bool FinishWithoutParent { get; set; }

    /// <summary>Whether Orleans' own dashboard is served below <c>/dashboard</c>, for operators. It counts every grain call, so it costs a little. Default: false.</summary>
    public bool Dashboard { get; set; }

    internal IPAddress Address => IPAddress.Parse(AdvertisedAddress);

    internal IPAddress ListenAddress => IPAddress.IsLoopback(Address) ? Address : Address.AddressFamily == AddressFamily.InterNetworkV6 ? IPAddress.IPv6Any : IPAddress.Any;

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Name.Length is 0 or > 100 || !Name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_'))
            yield return new ValidationResult($"Silo:Name must be 1 to 100 letters, digits, '-', '.' and '_', but is '{Name}'.");
        if (!IPAddress.TryParse(AdvertisedAddress, out _))
            yield return new ValidationResult($"Silo:AdvertisedAddress must be an IP address, but is '{AdvertisedAddress}'.");
    }
}
