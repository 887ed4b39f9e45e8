using System.Net;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
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

    /// <summary>To gateways by host name or address, looked up again and again: pods that come back have other addresses.</summary>
    public static IClientBuilder UseAdjointDpmGateways(this IClientBuilder client, IReadOnlyList<(string Host, int Port)> gateways, string clusterId = AdjointDpmCluster.ClusterId, string serviceId = AdjointDpmCluster.ServiceId)
    {
        if (gateways.Count == 0)
            throw new ArgumentException("No gateway was given. Name at least one host and port.", nameof(gateways));
        client.Services.AddSingleton<IGatewayListProvider>(new NamedGatewayListProvider(gateways));
        return client.UseAdjointDpmSettings(clusterId, serviceId);
    }

    /// <summary>Shows a secured cluster who is there.</summary>
    /// <param name="client">Client.</param>
    /// <param name="tlsFolder">Folder with <c>ca.crt</c> and, for clusters that ask for a certificate, <c>tls.crt</c> and <c>tls.key</c>; null: no TLS.</param>
    /// <param name="tokenFile">File with the token of a user; null: none.</param>
    /// <exception cref="System.IO.InvalidDataException">A file does not hold what it should.</exception>
    public static IClientBuilder UseAdjointDpmCredentials(this IClientBuilder client, string? tlsFolder, string? tokenFile = null)
    {
        var credentials = ClientCredentials.Open(tlsFolder, tokenFile, TimeProvider.System, NullLogger.Instance);
        if (credentials.IsEmpty)
            return client;
        client.Services.AddSingleton<IConfigureOptions<ClientConnectionOptions>>(services => new ConfigureOptions<ClientConnectionOptions>(options =>
        {
            var logger = services.GetRequiredService<ILoggerFactory>().CreateLogger(typeof(ClientCredentials).FullName!);
            options.ConfigureConnection(connection => connection.Use(next => SecureTransport.Dial(next, credentials.Tls, credentials.GreetAsync, logger)));
        }));
        client.AddOutgoingGrainCallFilter(credentials);
        return client;
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
