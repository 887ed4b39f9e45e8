namespace AdjointDpm.Grains.Hosting;

/// <summary>Names and numbers that silos and clients must agree on.</summary>
/// <remarks>
/// A silo is started as <c>dotnet AdjointDpm.Silo.dll --Silo:Name=silo-0 --Silo:DataFolder=FOLDER</c>. Its other settings:
/// <list type="bullet">
/// <item><c>Silo:SiloPort</c>, <c>Silo:GatewayPort</c>, <c>Silo:HttpPort</c>, <c>Silo:TensorPort</c>: TCP ports; 0 picks a free one. Defaults: <see cref="DefaultSiloPort"/>, <see cref="DefaultGatewayPort"/>, <see cref="DefaultHttpPort"/>, <see cref="DefaultTensorPort"/>.</item>
/// <item><c>Silo:AdvertisedAddress</c>: the address other silos and clients dial. Default: 127.0.0.1, and then the silo listens on loopback only; any other address makes it listen on all interfaces.</item>
/// <item><c>Cluster:Provider</c>: <c>file</c> (default: membership and state in <c>Silo:DataFolder</c>, for silos on one machine) <c>redis</c> with <c>Cluster:RedisConnection</c>, or <c>postgres</c> with <c>Cluster:PostgresConnection</c>.</item>
/// <item><c>Cluster:ClusterId</c>, <c>Cluster:ServiceId</c>: defaults <see cref="ClusterId"/>, <see cref="ServiceId"/>.</item>
/// <item><c>Workers:Devices:0</c>, <c>Workers:Devices:1</c>, …: devices of this silo. Default: <c>cpu:0</c>.</item>
/// </list>
/// Every setting can be given as an environment variable too, with <c>__</c> for <c>:</c>. The silo logs to standard error. When it
/// has joined the cluster and its HTTP endpoints answer, it writes one line to standard output: see <see cref="SiloReady"/>.
/// SIGTERM stops it; unfinished trials go on from their last committed step as soon as a silo with the same data folder runs.
/// </remarks>
public static class AdjointDpmCluster
{
    /// <summary>Cluster id of silos and clients unless configured.</summary>
    public const string ClusterId = "adjointdpm";

    /// <summary>Service id of silos and clients unless configured.</summary>
    public const string ServiceId = "adjointdpm";

    /// <summary>Port of silo-to-silo traffic.</summary>
    public const int DefaultSiloPort = 11111;

    /// <summary>Port that clients connect to.</summary>
    public const int DefaultGatewayPort = 30000;

    /// <summary>Metrics in Prometheus' text format.</summary>
    public const string MetricsPath = "/metrics";

    /// <summary>Answers as long as the process does.</summary>
    public const string LivePath = "/health/live";

    /// <summary>Answers 200 as long as the silo is an active member and not stopping.</summary>
    public const string ReadyPath = "/health/ready";

    /// <summary>Port of <see cref="MetricsPath"/>, <see cref="LivePath"/> and <see cref="ReadyPath"/>.</summary>
    public const int DefaultHttpPort = 8080;

    /// <summary>Port that silos fetch each other's large tensors from.</summary>
    public const int DefaultTensorPort = 11112;

    /// <summary>How long a grain call may go unanswered. Long polls set their own.</summary>
    public static TimeSpan ResponseTimeout { get; } = TimeSpan.FromSeconds(10);
}
