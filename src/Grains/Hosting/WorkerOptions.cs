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

    /// <summary>Memory for what this silo's workers have computed and other silos fetch: gradients, and what encoded ones left. Default: 1 GiB.</summary>
    [Range(1 << 20, long.MaxValue)]
    public long TensorStoreBytes { get; set; } = 1L << 30;

    /// <summary>Trained parameters above this many bytes are reduced, stepped and kept in ranges of that length by several silos, and not by the coordinator alone. Default: 256 MiB.</summary>
    [Range(4, 1 << 30)]
    public int RangeBytes { get; set; } = 1 << 28;

    /// <summary>Runs of at least this many bytes come from other silos over connections beside the messages (their tensor port), shorter ones in chunks among them. Default: 2 MiB.</summary>
    [Range(1, int.MaxValue)]
    public int TensorStreamBytes { get; set; } = 1 << 21;

    /// <summary>Devices, with the default filled in.</summary>
    public IReadOnlyList<string> EffectiveDevices => Devices.Count == 0 ? ["cpu:0"] : [.. Devices.Distinct().Where(device => device != None)];

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
