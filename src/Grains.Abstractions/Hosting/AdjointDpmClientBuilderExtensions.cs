using System.Net;
using AdjointDpm.Grains.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Configuration;
using Orleans.Messaging;

namespace Orleans.Hosting;

/// <summary>Connects an Orleans client to an AdjointDpm cluster.</summary>
public static class AdjointDpmClientBuilderExtensions
{
    /// <summary>To the silos on this machine that share <paramref name="dataFolder"/>, wherever their ports are; follows silos that come and go.</summary>
    public static IClientBuilder UseAdjointDpmDataFolder(this IClientBuilder client, string dataFolder, string clusterId = AdjointDpmCluster.ClusterId, string serviceId = AdjointDpmCluster.ServiceId)
    {
        client.Services.AddSingleton<IGatewayListProvider>(services => new FileGatewayListProvider(
            new MembershipFile(dataFolder, clusterId, services.GetService<TimeProvider>() ?? TimeProvider.System)));
        return client.UseAdjointDpmSettings(clusterId, serviceId);
    }

    /// <summary>To gateways at known addresses, such as a Kubernetes service.</summary>
    public static IClientBuilder UseAdjointDpmGateways(this IClientBuilder client, IReadOnlyList<IPEndPoint> gateways, string clusterId = AdjointDpmCluster.ClusterId, string serviceId = AdjointDpmCluster.ServiceId)
    {
        if (gateways.Count == 0)
            throw new ArgumentException("No gateway was given. Name at least one address:port.", nameof(gateways));
        return client.UseStaticClustering([.. gateways]).UseAdjointDpmSettings(clusterId, serviceId);
    }

    private static IClientBuilder UseAdjointDpmSettings(this IClientBuilder client, string clusterId, string serviceId)
    {
        client.Configure<ClusterOptions>(options =>
        {
            options.ClusterId = clusterId;
            options.ServiceId = serviceId;
        });
        // A gateway that hangs is left within seconds instead of minutes.
        client.Configure<GatewayOptions>(options => options.GatewayListRefreshPeriod = TimeSpan.FromSeconds(2));
        // A program that is traced sees its experiments within its own trace.
        client.AddActivityPropagation();
        client.Configure<ClientMessagingOptions>(options => options.ResponseTimeout = AdjointDpmCluster.ResponseTimeout);
        return client;
    }
}
