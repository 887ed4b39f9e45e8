using AdjointDpm.Grains.Hosting;
using Orleans.Configuration;
using StackExchange.Redis;

namespace AdjointDpm.Silo;

/// <summary>The Orleans silo: ports, membership, storage, grains.</summary>
internal static class OrleansHosting
{
    public static void AddSilo(this IHostApplicationBuilder builder, SiloHostOptions silo, ClusterHostOptions cluster, WorkerOptions workers) =>
        builder.UseOrleans(orleans =>
        {
            orleans.Configure<ClusterOptions>(options =>
            {
                options.ClusterId = cluster.ClusterId;
                options.ServiceId = cluster.ServiceId;
            });
            orleans.Configure<SiloOptions>(options => options.SiloName = silo.Name);
            orleans.Configure<EndpointOptions>(options =>
            {
                options.AdvertisedIPAddress = silo.Address;
                options.SiloPort = silo.SiloPort;
                options.GatewayPort = silo.GatewayPort;
                options.SiloListeningEndpoint = new(silo.ListenAddress, silo.SiloPort);
                options.GatewayListeningEndpoint = new(silo.ListenAddress, silo.GatewayPort);
            });
            orleans.AddAdjointDpm(silo.DataFolder, workers).AddGradientEngine();
            if (cluster.Provider == ClusterProvider.Redis)
            {
                orleans.UseRedisClustering(options => options.ConfigurationOptions = ConfigurationOptions.Parse(cluster.RedisConnection!));
                orleans.AddRedisGrainStorage(AdjointDpmSiloBuilderExtensions.StateStorage, options =>
                {
                    options.ConfigurationOptions = ConfigurationOptions.Parse(cluster.RedisConnection!);
                    options.GrainStorageSerializer = AdjointDpmSiloBuilderExtensions.StateSerializer;
                });
            }
            else
                orleans.UseAdjointDpmFiles(silo.DataFolder, cluster.ClusterId);
            orleans.AddActivityPropagation();
        });
}
