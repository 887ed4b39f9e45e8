using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Grains.Hosting;

/// <summary>What this silo gives to workers.</summary>
public sealed class WorkerOptions : IValidatableObject
{
    public const string Section = "Workers";

    /// <summary>What a silo that computes nothing has for devices: it coordinates.</summary>
    public const string None = "none";

    /// <summary>Devices: <c>cpu:0</c>, <c>cuda:0</c>, …, or <c>none</c> alone, for a silo that computes nothing and that coordinators prefer. Default: cpu:0.</summary>
    public IList<string> Devices { get; } = [];

    /// <summary>Cores that libtorch may have: work of experiments whose <c>resources.threads</c> is more goes elsewhere, or waits. Default: no limit, and then more threads than cores compute the same bits more slowly.</summary>
    [Range(1, 1024)]
    public int? MaxThreads { get; set; }

    /// <summary>Workers of each device: so many shards are computed on it at once, of one trial or of several, each with a copy of its model, as far as <see cref="DeviceBytes"/> has room. Default: 1.</summary>
    [Range(1, 16)]
    public int ShardsAtOnce { get; set; } = 1;

    /// <summary>Memory of each device for models and shards together, where several are computed at once. Default: nine tenths of what the device has.</summary>
    [Range(1, long.MaxValue)]
    public long? DeviceBytes { get; set; }

    /// <summary>Memory for what this silo's workers have computed and other silos fetch: gradients, and what encoded ones left. Default: 1 GiB.</summary>
    [Range(1 << 20, long.MaxValue)]
    public long TensorStoreBytes { get; set; } = 1L << 30;

    /// <summary>Trained parameters above this many bytes are reduced, stepped and kept in ranges of that length by several silos, and not by the coordinator alone. Default: 256 MiB.</summary>
    [Range(4, 1 << 30)]
    public int RangeBytes { get; set; } = 1 << 28;

    /// <summary>Runs of at least this many bytes come from other silos over connections beside the messages (their tensor port), shorter ones in chunks among them. Default: 2 MiB.</summary>
    [Range(1, int.MaxValue)]
    public int TensorStreamBytes { get; set; } = 1 << 21;

    /// <summary>Devices of workers, with the default filled in: the first worker of a device has its name, the next ones <c>cuda:0.1</c>, <c>cuda:0.2</c>, ….</summary>
    public IReadOnlyList<string> EffectiveDevices =>
        [.. from device in Devices.Count == 0 ? ["cpu:0"] : Devices.Distinct().Where(device => device != None) from worker in Enumerable.Range(0, ShardsAtOnce) select worker == 0 ? device : FormattableString.Invariant($"{device}.{worker}")];

    /// <summary>The device that one of <see cref="EffectiveDevices"/> computes on.</summary>
    public static string DeviceOf(string worker)
    {
        ArgumentNullException.ThrowIfNull(worker);
        return worker.Split('.')[0];
    }

    /// <summary>Which last bits each of <see cref="EffectiveDevices"/> gives, in that order; empty where it is not told. No setting: the host finds it out.</summary>
    internal IReadOnlyList<string> Arithmetic { get; set; } = [];

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (RangeBytes % sizeof(float) != 0)
            yield return new ValidationResult($"Workers:RangeBytes is {RangeBytes}. Write a multiple of 4: a range holds whole numbers.");
        if (Devices.Contains(None) && Devices.Distinct().Count() > 1)
            yield return new ValidationResult($"Workers:Devices holds '{None}' beside other devices. Write it alone for a silo without devices, or leave it out.");
        foreach (var device in Devices)
            if (device != None && (device.Split(':') is not ["cpu" or "cuda", var index] || !ushort.TryParse(index, out _)))
                yield return new ValidationResult($"Workers:Devices holds '{device}'. Write a device as cpu:0 or cuda:0, or none alone for a silo that only coordinates.");
    }
}
