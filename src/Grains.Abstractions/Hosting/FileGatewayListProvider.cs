using Orleans.Messaging;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Tells a client the gateways of a cluster on this machine from its <see cref="MembershipFile"/>: active silos whose process lives.</summary>
public sealed class FileGatewayListProvider(MembershipFile file) : IGatewayListProvider
{
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
        foreach (var row in (await file.ReadAsync()).Silos)
        {
            if (row.Status != SiloStatus.Active || row.GatewayPort <= 0)
                continue;
            var silo = SiloAddress.FromParsableString(row.Address);
            if (!file.IsGone(silo))
                gateways.Add(SiloAddress.New(silo.Endpoint.Address, row.GatewayPort, silo.Generation).ToGatewayUri());
        }
        return gateways;
    }
}
