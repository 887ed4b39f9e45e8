using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Grains.Hosting;

/// <summary>What this silo gives to workers.</summary>
public sealed class WorkerOptions
{
    public const string Section = "Workers";

    /// <summary>Devices: <c>cpu:0</c>, <c>cuda:0</c>, … Default: cpu:0.</summary>
    public IList<string> Devices { get; } = [];

    /// <summary>Memory for gradients and parameters that other silos fetch. Default: 1 GiB.</summary>
    [Range(1 << 20, long.MaxValue)]
    public long TensorStoreBytes { get; set; } = 1L << 30;

    internal IReadOnlyList<string> EffectiveDevices => Devices.Count == 0 ? ["cpu:0"] : [.. Devices.Distinct()];
}
