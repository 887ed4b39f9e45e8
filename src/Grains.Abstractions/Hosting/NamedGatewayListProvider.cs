using System.Net;
using System.Net.Sockets;
using Orleans.Messaging;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Tells a client the gateways behind host names, as the names resolve now: a silo of an orchestrator that comes back has another address.</summary>
/// <param name="hosts">Host name or address, and port, of each.</param>
/// <param name="resolve">Addresses of a host; null for DNS.</param>
public sealed class NamedGatewayListProvider(IReadOnlyList<(string Host, int Port)> hosts, Func<string, Task<IPAddress[]>>? resolve = null) : IGatewayListProvider
{
    private readonly Dictionary<string, IPAddress[]> _known = [];

    /// <inheritdoc />
    public TimeSpan MaxStaleness => TimeSpan.FromSeconds(2);

    /// <inheritdoc />
    public bool IsUpdatable => true;

    /// <inheritdoc />
    public Task InitializeGatewayListProvider() => Task.CompletedTask;

    /// <inheritdoc />
    public async Task<IList<Uri>> GetGateways()
    {
        var gateways = new List<Uri>();
        foreach (var (host, port) in hosts)
            foreach (var address in await AddressesAsync(host))
                gateways.Add(SiloAddress.New(address, port, 0).ToGatewayUri());
        return gateways;
    }

    /// <summary>A name that cannot be resolved for a moment leads where it led before.</summary>
    private async Task<IPAddress[]> AddressesAsync(string host)
    {
        if (IPAddress.TryParse(host, out var address))
            return [address];
        try
        {
            if (await (resolve ?? Dns.GetHostAddressesAsync)(host) is { Length: > 0 } found)
                _known[host] = found;
        }
        catch (SocketException)
        {
            // What was known is tried, and the name again in a moment.
        }
        return _known.GetValueOrDefault(host, []);
    }
}
