using System.Net;
using System.Net.Sockets;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Client.Tests.Connection;

public sealed class NamedGatewayListProviderTests
{
    [Fact]
    public async Task Gateways_AreThoseThatTheNamesLeadToNow()
    {
        IPAddress[]? addresses = [IPAddress.Parse("10.0.0.1")];
        var provider = new NamedGatewayListProvider([("silo.example", 30000), ("127.0.0.1", 30001)], host =>
            host != "silo.example" ? throw new InvalidOperationException(host) : addresses is null ? throw new SocketException((int)SocketError.TryAgain) : Task.FromResult(addresses));
        Assert.Equal(["10.0.0.1:30000", "127.0.0.1:30001"], await ToldAsync());
        addresses = [IPAddress.Parse("10.0.0.7"), IPAddress.Parse("10.0.0.8")];
        Assert.Equal(["10.0.0.7:30000", "10.0.0.8:30000", "127.0.0.1:30001"], await ToldAsync());
        // No answer of the name's server is no news.
        addresses = null;
        Assert.Equal(["10.0.0.7:30000", "10.0.0.8:30000", "127.0.0.1:30001"], await ToldAsync());
        Assert.True(provider.IsUpdatable);

        async Task<IEnumerable<string>> ToldAsync() => (await provider.GetGateways()).Select(gateway => $"{gateway.Host}:{gateway.Port}");
    }
}
