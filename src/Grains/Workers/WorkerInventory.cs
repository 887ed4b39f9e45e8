using AdjointDpm.Grains.Specs;
using Orleans.Runtime.MembershipService.SiloMetadata;

namespace AdjointDpm.Grains.Workers;

/// <summary>Which workers the cluster has now.</summary>
internal interface IWorkerInventory
{
    /// <summary>Keys of workers (<c>{silo}/{device}</c>), sorted.</summary>
    IReadOnlyList<string> List(DeviceKind kind);
}

/// <summary>Reads the inventory off the cluster's membership: every silo publishes its devices with its name.</summary>
internal sealed class WorkerInventory(ISiloStatusOracle oracle, ISiloMetadataCache metadata) : IWorkerInventory
{
    /// <summary>Key of the silo metadata that lists devices, separated by commas.</summary>
    public const string MetadataKey = "adjointdpm.devices";

    public IReadOnlyList<string> List(DeviceKind kind) =>
        [.. All().Where(worker => KindOf(worker) == kind).Order(StringComparer.Ordinal)];

    public IReadOnlyList<string> All()
    {
        var workers = new List<string>();
        foreach (var silo in oracle.GetActiveSilos())
        {
            if (!oracle.TryGetSiloName(silo, out var name) || !metadata.GetSiloMetadata(silo).Metadata.TryGetValue(MetadataKey, out var devices))
                continue;
            foreach (var device in devices.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
                workers.Add($"{name}/{device}");
        }
        return workers;
    }

    public static string DeviceOf(string worker) => worker[(worker.LastIndexOf('/') + 1)..];

    public static string SiloOf(string worker) => worker[..worker.LastIndexOf('/')];

    public static DeviceKind KindOf(string worker) => DeviceOf(worker).StartsWith("cuda", StringComparison.Ordinal) ? DeviceKind.Cuda : DeviceKind.Cpu;
}
