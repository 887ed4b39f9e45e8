using System.Net;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using Orleans.Placement;
using Orleans.Runtime.Hosting;
using Orleans.Runtime.MembershipService.SiloMetadata;
using Orleans.Storage;

namespace Orleans.Hosting;

/// <summary>Puts AdjointDpm's grains and services onto a silo.</summary>
public static class AdjointDpmSiloBuilderExtensions
{
    /// <summary>Meter of everything that AdjointDpm counts.</summary>
    public const string MeterName = AdjointDpmInstruments.MeterName;

    /// <summary>Source of AdjointDpm's spans.</summary>
    public const string TraceSourceName = Traces.SourceName;

    /// <summary>Name of the grain storage that a provider must be registered under.</summary>
    public const string StateStorage = StorageNames.State;

    /// <summary>How state is written, for providers that ask.</summary>
    public static IGrainStorageSerializer StateSerializer { get; } = new StateSerializer();

    /// <summary>Workers compute on this silo's devices.</summary>
    public static ISiloBuilder AddGradientEngine(this ISiloBuilder silo)
    {
        silo.Services.AddSingleton<IGradientEngineFactory, GradientEngineFactory>();
        return silo;
    }

    /// <summary>Grains, workers, data plane and watchdog. Membership and storage are added apart.</summary>
    public static ISiloBuilder AddAdjointDpm(this ISiloBuilder silo, string dataFolder, WorkerOptions workers)
    {
        var services = silo.Services;
        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<IDisk, LocalDisk>();
        services.TryAddSingleton<IArtifacts, FolderArtifacts>();
        services.TryAddSingleton(Background.ThreadPool);
        services.AddSingleton(new SiloFolders(Path.GetFullPath(dataFolder)));
        services.AddSingleton(workers);
        services.AddSingleton(new TensorStore(workers.TensorStoreBytes));
        services.AddSingleton<TensorStreamServer>();
        services.AddSingleton(provider => ActivatorUtilities.CreateInstance<TensorStreams>(provider, workers.TensorStreamBytes));
        services.AddSingleton<TensorTransfer>();
        services.AddSingleton<IDevices, DeviceExecutors>();
        services.AddSingleton<AdjointDpmInstruments>();
        services.AddSingleton<LiveGauges>();
        services.AddSingleton<RecentLog>();
        services.AddSingleton<ILoggerProvider>(provider => provider.GetRequiredService<RecentLog>());
        services.AddHostedService<SiloInstruments>();
        services.AddSingleton<WorkerInventory>();
        services.AddSingleton<IWorkerInventory>(provider => provider.GetRequiredService<WorkerInventory>());
        services.AddHostedService<CordonWatch>();
        services.AddHostedService<ExperimentWatchdog>();
        services.AddPlacementDirector<NamedSiloPlacement, NamedSiloPlacementDirector>();
        services.AddPlacementFilter<CoordinatorPlacement, CoordinatorPlacementDirector>(ServiceLifetime.Singleton);
        var told = new Dictionary<string, string> { [WorkerInventory.MetadataKey] = string.Join(',', workers.EffectiveDevices) };
        if (workers.MaxThreads is { } threads)
            told[WorkerInventory.ThreadsKey] = threads.ToString(System.Globalization.CultureInfo.InvariantCulture);
        if (workers.Arithmetic.Count > 0)
            told[WorkerInventory.ArithmeticKey] = string.Join(',', workers.Arithmetic);
        silo.UseSiloMetadata(told);
        // A silo that crashed or hangs is out within seconds; safe because no message is over 1 MB and engines yield to the runtime.
        silo.Configure<ClusterMembershipOptions>(options =>
        {
            options.ProbeTimeout = TimeSpan.FromSeconds(2);
            options.MaxProbeTimeout = TimeSpan.FromSeconds(3);
            options.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(5);
            options.TableRefreshTimeout = TimeSpan.FromSeconds(15);
        });
        silo.Configure<SiloMessagingOptions>(options => options.ResponseTimeout = AdjointDpmCluster.ResponseTimeout);
        return silo;
    }

    /// <summary>Results go to a bucket instead of the data folder. All silos of a cluster need the same one.</summary>
    public static ISiloBuilder UseArtifactBucket(this ISiloBuilder silo, IBucket bucket, BucketOptions options)
    {
        silo.Services.Replace(ServiceDescriptor.Singleton<IArtifacts>(provider =>
            new BucketArtifacts(bucket, options, provider.GetRequiredService<IDisk>(), provider.GetRequiredService<TimeProvider>(), provider.GetRequiredService<ILogger<BucketArtifacts>>())));
        return silo;
    }

    /// <summary>Tensors of at least <see cref="WorkerOptions.TensorStreamBytes"/> leave this silo over connections beside the messages. Without it they go in chunks among them.</summary>
    /// <param name="silo">Silo.</param>
    /// <param name="listen">Where it listens.</param>
    /// <param name="advertised">Address that other silos dial.</param>
    public static ISiloBuilder AddTensorPort(this ISiloBuilder silo, IPEndPoint listen, IPAddress advertised)
    {
        silo.Services.AddHostedService(provider => new TensorPort(provider.GetRequiredService<TensorStreamServer>(), listen, advertised));
        return silo;
    }

    /// <summary>Membership and state in the data folder: for one silo, or several on one machine. Needs nothing installed.</summary>
    public static ISiloBuilder UseAdjointDpmFiles(this ISiloBuilder silo, string dataFolder, string clusterId)
    {
        silo.Services.AddSingleton<IMembershipTable>(provider => new FileMembershipTable(new MembershipFile(dataFolder, clusterId, provider.GetRequiredService<TimeProvider>())));
        silo.AddJournaledDisk();
        // Reading one small file costs nothing, and shows at once whose process has ended.
        silo.Configure<ClusterMembershipOptions>(options => options.TableRefreshTimeout = TimeSpan.FromSeconds(1));
        silo.Services.AddGrainStorage<IGrainStorage>(StorageNames.State, (provider, _) =>
            new FileGrainStorage(provider.GetRequiredService<SiloFolders>().State, provider.GetRequiredService<TimeProvider>(), provider.GetRequiredService<IDisk>()));
        return silo;
    }

    /// <summary>What many trials commit within the same moment costs one flush. On systems that cannot, each commit costs its own.</summary>
    private static void AddJournaledDisk(this ISiloBuilder silo)
    {
        if (!LocalDisk.CanJournal)
            return;
        silo.Services.AddSingleton<SiloDisk>();
        silo.Services.AddSingleton<IDisk>(provider => provider.GetRequiredService<SiloDisk>().Disk);
        silo.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>>(provider => provider.GetRequiredService<SiloDisk>());
    }
}
