using System.Data.Common;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using Npgsql;
using Orleans.Configuration;
using Orleans.Dashboard;
using StackExchange.Redis;

namespace AdjointDpm.Silo;

/// <summary>The Orleans silo: ports, membership, storage, grains.</summary>
internal static class OrleansHosting
{
    public static void AddSilo(this IHostApplicationBuilder builder, SiloHostOptions silo, ClusterHostOptions cluster, WorkerOptions workers, (IBucket Bucket, BucketOptions Options)? artifacts) =>
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
            orleans.AddAdjointDpm(silo.DataFolder, workers).AddTensorPort(new(silo.ListenAddress, silo.TensorPort), silo.Address).AddGradientEngine();
            if (artifacts is { } place)
                orleans.UseArtifactBucket(place.Bucket, place.Options);
            switch (cluster.Provider)
            {
                case ClusterProvider.Redis:
                    orleans.UseRedis(ConfigurationOptions.Parse(cluster.RedisConnection!));
                    break;
                case ClusterProvider.Postgres:
                    orleans.UsePostgres(cluster.PostgresConnection!);
                    break;
                default:
                    orleans.UseAdjointDpmFiles(silo.DataFolder, cluster.ClusterId);
                    break;
            }
            orleans.AddActivityPropagation();
            if (silo.Dashboard)
                orleans.AddDashboard();
        });

    private static void UseRedis(this ISiloBuilder orleans, ConfigurationOptions connection)
    {
        orleans.UseRedisClustering(options => options.ConfigurationOptions = connection);
        orleans.AddRedisGrainStorage(AdjointDpmSiloBuilderExtensions.StateStorage, options =>
        {
            options.ConfigurationOptions = connection;
            options.GrainStorageSerializer = AdjointDpmSiloBuilderExtensions.StateSerializer;
        });
    }

    private static void UsePostgres(this ISiloBuilder orleans, string connection)
    {
        const string Invariant = "Npgsql";
        DbProviderFactories.RegisterFactory(Invariant, NpgsqlFactory.Instance);
        orleans.UseAdoNetClustering(options => (options.Invariant, options.ConnectionString) = (Invariant, connection));
        orleans.AddAdoNetGrainStorage(AdjointDpmSiloBuilderExtensions.StateStorage, options =>
        {
            (options.Invariant, options.ConnectionString) = (Invariant, connection);
            options.GrainStorageSerializer = AdjointDpmSiloBuilderExtensions.StateSerializer;
        });
    }
}
