using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Client.Connection;

/// <summary>Which cluster is meant: gateways by address, or the data folder of a cluster on this machine.</summary>
internal sealed record ClusterTarget
{
    public const string Variable = "ADPM_GATEWAY";

    public const string DefaultFolder = "runs";

    private ClusterTarget()
    {
    }

    /// <summary>Host and port of each gateway; empty when there is a folder.</summary>
    public IReadOnlyList<(string Host, int Port)> Gateways { get; private init; } = [];

    /// <summary>Data folder, absolute.</summary>
    public string? DataFolder { get; private init; }

    /// <summary>Options that lead to the same cluster, for printing commands.</summary>
    public string Options { get; private init; } = "";

    /// <summary>Folder with the authority of a secured cluster and, where it asks for one, a certificate; null: no TLS.</summary>
    public string? TlsFolder { get; init; }

    /// <summary>File with the token of a user; null: none.</summary>
    public string? TokenFile { get; init; }

    public override string ToString() => DataFolder ?? string.Join(", ", Gateways.Select(g => string.Create(CultureInfo.InvariantCulture, $"{g.Host}:{g.Port}")));

    public static ClusterTarget Folder(string folder, string shortName) =>
        new() { DataFolder = Path.GetFullPath(folder), Options = $" --data {shortName}" };

    /// <summary>--gateway, else --data, else ADPM_GATEWAY, else ./runs when a cluster has run there, else the default port of this machine.</summary>
    public static ClusterTarget Resolve(IReadOnlyList<string> gateways, string? dataFolder, ClientContext context)
    {
        if (gateways.Count > 0) return Parse(gateways, "--gateway", string.Concat(gateways.Select(gateway => $" --gateway {gateway}")));
        if (dataFolder is not null)
        {
            var folder = Path.GetFullPath(Path.Combine(context.CurrentDirectory, dataFolder));
            return Directory.Exists(folder) ? Folder(folder, dataFolder)
                : throw new CommandFailure(ExitCodes.Invalid, $"--data: there is no folder '{dataFolder}'.", "Name the output folder of 'adpm run'.");
        }

        if (context.Variable(Variable) is { Length: > 0 } variable)
            return Parse(variable.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries), Variable, "");
        var local = Path.Combine(context.CurrentDirectory, DefaultFolder);
        return File.Exists(new MembershipFile(local, AdjointDpmCluster.ClusterId, context.Time).Path)
            ? new ClusterTarget { DataFolder = local }
            : new ClusterTarget { Gateways = [("127.0.0.1", AdjointDpmCluster.DefaultGatewayPort)] };
    }

    private static ClusterTarget Parse(IReadOnlyList<string> gateways, string source, string options) =>
        new() { Gateways = [.. gateways.Select(gateway => Parse(gateway, source))], Options = options };

    private static (string Host, int Port) Parse(string gateway, string source)
    {
        var colon = gateway.LastIndexOf(':');
        if (colon > 0 && !gateway.EndsWith(']') && int.TryParse(gateway[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is > 0 and < 65536)
        {
            var host = gateway[..colon].Trim('[', ']');
            // An IPv6 address without brackets has colons of its own and hides where the port begins.
            if (host.Length > 0 && (!host.Contains(':') || gateway.StartsWith('['))) return (host, port);
        }

        throw new CommandFailure(ExitCodes.Invalid, $"{source}: '{gateway}' is not host:port.", "Write it like 127.0.0.1:30000 or silo.example.org:30000.");
    }
}
