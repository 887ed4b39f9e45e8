using System.Collections.Concurrent;
using System.Globalization;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using Orleans.Runtime.MembershipService.SiloMetadata;

namespace AdjointDpm.Grains.Workers;

/// <summary>Which workers the cluster has now.</summary>
internal interface IWorkerInventory
{
    /// <summary>Keys of workers (<c>{silo}/{device}</c>) that get work, sorted.</summary>
    IReadOnlyList<string> List(DeviceKind kind);

    /// <summary>Those of them whose silos have the cores for so many threads.</summary>
    IReadOnlyList<string> List(DeviceKind kind, int threads) => List(kind);

    /// <summary>Which last bits a worker's device gives; null where its silo does not tell.</summary>
    string? ArithmeticOf(string worker) => null;

    /// <summary>How many more there are that get no work because they are cordoned; null while this silo does not know which are, and lists none.</summary>
    int? Cordoned(DeviceKind kind) => 0;

    /// <summary>Whether a silo's process has ended, as far as this silo knows.</summary>
    /// <param name="process">Its address with its generation.</param>
    bool HasEnded(string process);
}

/// <summary>Reads the inventory off the cluster's membership: every silo publishes its devices with its name. <see cref="CordonWatch"/> tells which of them are cordoned.</summary>
internal sealed class WorkerInventory(ISiloStatusOracle oracle, ISiloMetadataCache metadata, TimeProvider time) : IWorkerInventory
{
    /// <summary>Key of the silo metadata that lists devices, separated by commas.</summary>
    public const string MetadataKey = "adjointdpm.devices";

    /// <summary>A silo that has joined is known to all by then, whether they were told or read it in the table.</summary>
    private static readonly TimeSpan Joining = TimeSpan.FromSeconds(30);

    /// <summary>Key of the silo metadata that tells how many threads libtorch may have there; without it there is no limit.</summary>
    public const string ThreadsKey = "adjointdpm.threads";

    /// <summary>Key of the silo metadata that tells which last bits the devices give, in their order, separated by commas.</summary>
    public const string ArithmeticKey = "adjointdpm.arithmetic";

    private readonly Lock _lock = new();

    /// <summary>Since when processes are asked for that are not members.</summary>
    private readonly ConcurrentDictionary<string, DateTimeOffset> _unknown = new();
    private long _version = -1;
    private volatile HashSet<string>? _cordoned;

    /// <summary>Whether it has been told which workers are cordoned. Before that it lists none: after a restart a cordoned one must not get work.</summary>
    public bool Knows => _cordoned is not null;

    public IReadOnlyList<string> List(DeviceKind kind) =>
        Knows ? [.. All().Where(worker => KindOf(worker) == kind && !IsCordoned(worker)).Order(StringComparer.Ordinal)] : [];

    public IReadOnlyList<string> List(DeviceKind kind, int threads)
    {
        var small = oracle.GetActiveSilos()
            .Where(silo => metadata.GetSiloMetadata(silo).Metadata.TryGetValue(ThreadsKey, out var most) && int.TryParse(most, NumberStyles.None, CultureInfo.InvariantCulture, out var limit) && limit < threads)
            .Select(silo => oracle.TryGetSiloName(silo, out var name) ? name : null).ToHashSet();
        return small.Count == 0 ? List(kind) : [.. List(kind).Where(worker => !small.Contains(SiloOf(worker)))];
    }

    public string? ArithmeticOf(string worker)
    {
        foreach (var (silo, devices) in Silos())
            if (silo.Name == SiloOf(worker) && silo.Told.TryGetValue(ArithmeticKey, out var kinds) && Array.IndexOf(devices, DeviceOf(worker)) is >= 0 and var index
                && kinds.Split(',').ElementAtOrDefault(index) is { Length: > 0 } kind)
                return kind;
        return null;
    }

    public int? Cordoned(DeviceKind kind) => Knows ? All().Count(worker => KindOf(worker) == kind && IsCordoned(worker)) : null;

    /// <summary>As far as is known.</summary>
    public bool IsCordoned(string worker) => _cordoned?.Contains(worker) ?? false;

    /// <summary>Takes what is told, unless something newer was told before.</summary>
    public void Learn(CordonedWorkers told)
    {
        lock (_lock)
        {
            if (told.Version <= _version)
                return;
            (_version, _cordoned) = (told.Version, told.Workers.ToHashSet(StringComparer.Ordinal));
        }
    }

    /// <remarks>One that this silo has not heard of may have joined just now, and ended long ago: time tells.</remarks>
    public bool HasEnded(string process)
    {
        var status = oracle.GetApproximateSiloStatus(SiloAddress.FromParsableString(process));
        if (status == SiloStatus.None)
            return time.GetUtcNow() - _unknown.GetOrAdd(process, _ => time.GetUtcNow()) >= Joining;
        _unknown.TryRemove(process, out _);
        return status == SiloStatus.Dead;
    }

    /// <summary>Keys of all workers, cordoned or not.</summary>
    public IReadOnlyList<string> All() => [.. Silos().SelectMany(silo => silo.Devices.Select(device => $"{silo.Silo.Name}/{device}"))];

    private IEnumerable<((string Name, IReadOnlyDictionary<string, string> Told) Silo, string[] Devices)> Silos()
    {
        foreach (var silo in oracle.GetActiveSilos())
        {
            var told = metadata.GetSiloMetadata(silo).Metadata;
            if (oracle.TryGetSiloName(silo, out var name) && told.TryGetValue(MetadataKey, out var devices))
                yield return ((name, told), devices.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
        }
    }

    public static string DeviceOf(string worker) => worker[(worker.LastIndexOf('/') + 1)..];

    public static string SiloOf(string worker) => worker[..worker.LastIndexOf('/')];

    public static DeviceKind KindOf(string worker) => DeviceOf(worker).StartsWith("cuda", StringComparison.Ordinal) ? DeviceKind.Cuda : DeviceKind.Cpu;
}
