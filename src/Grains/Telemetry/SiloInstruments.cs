using System.Diagnostics.Metrics;
using System.Reflection;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Hosting;
using TorchSharp;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Tells of the silo and its machine, when somebody looks: workers, memory, disk, GPUs.</summary>
internal sealed class SiloInstruments : IHostedService, IDisposable
{
    private readonly Meter _meter;
    private readonly IGpus? _gpus;
    private readonly Action _begin;

    public SiloInstruments(IMeterFactory meters, AdjointDpmInstruments instruments, WorkerOptions options, WorkerInventory inventory, ILocalSiloDetails silo, SiloFolders folders)
        : this(meters, folders.Data, Nvml.TryOpen(), instruments.Zero, () => [.. options.EffectiveDevices.Select(device => $"{silo.Name}/{device}").Select(worker => (instruments.IsBusy(worker), inventory.IsCordoned(worker)))])
    {
    }

    internal SiloInstruments(IMeterFactory meters, string dataFolder, IGpus? gpus, Action begin, Func<IReadOnlyList<(bool Busy, bool Cordoned)>> workers)
    {
        (_meter, _gpus, _begin) = (meters.Create(AdjointDpmInstruments.MeterName), gpus, begin);
        var version = typeof(SiloInstruments).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "unknown";
        AdjointDpmMetrics.Build.Observe(_meter, () => [new(1, Label("version", version))]);
        AdjointDpmMetrics.Workers.Observe(_meter, () => WorkersOf(workers()));
        AdjointDpmMetrics.LiveTensors.Observe(_meter, () => [new(torch.Tensor.TotalCount)]);
        AdjointDpmMetrics.HostMemory.Observe(_meter, () => MemoryReading.Read() is { } memory ? [new(memory.Used, Label("state", "used")), new(memory.Total, Label("state", "total"))] : []);
        AdjointDpmMetrics.Disk.Observe(_meter, () => DiskOf(dataFolder));
        if (_gpus is not null)
            ObserveGpus(_gpus);
    }

    public Task StartAsync(CancellationToken cancellationToken)
    {
        // Exporters listen from here on.
        _begin();
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose()
    {
        _meter.Dispose();
        (_gpus as IDisposable)?.Dispose();
    }

    private static IEnumerable<Measurement<double>> WorkersOf(IReadOnlyList<(bool Busy, bool Cordoned)> workers)
    {
        // All states, also those that none is in: an alert can then tell nobody from nothing known.
        foreach (var (name, busy, cordoned) in new[] { ("ready", false, false), ("busy", true, false), ("cordoned", false, true), ("draining", true, true) })
            yield return new(workers.Count(worker => worker == (busy, cordoned)), Label("state", name));
    }

    private static IEnumerable<Measurement<double>> DiskOf(string folder)
    {
        DriveInfo drive;
        (double, double) room;
        try
        {
            drive = new DriveInfo(folder);
            room = (drive.AvailableFreeSpace, drive.TotalSize);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A disk that does not answer tells nothing, and the scrape goes on.
            yield break;
        }
        yield return new(room.Item1, Label("state", "free"));
        yield return new(room.Item2, Label("state", "total"));
    }

    private void ObserveGpus(IGpus gpus)
    {
        AdjointDpmMetrics.DeviceUtilization.Observe(_meter, () => Each(gpu => [(gpu.Utilization, null, null)]));
        AdjointDpmMetrics.DeviceMemory.Observe(_meter, () => Each(gpu => [(gpu.MemoryUsed, "state", "used"), (gpu.MemoryTotal, "state", "total")]));
        AdjointDpmMetrics.DevicePower.Observe(_meter, () => Each(gpu => [(gpu.Watts, null, null)]));
        AdjointDpmMetrics.DeviceTemperature.Observe(_meter, () => Each(gpu => [(gpu.Celsius, null, null)]));
        AdjointDpmMetrics.DeviceErrors.ObserveCounter(_meter, () => Each(gpu => [(gpu.EccCorrected, "kind", "ecc_corrected"), (gpu.EccUncorrected, "kind", "ecc_uncorrected"), (gpu.Xid, "kind", "xid")])
            .Select(measured => new Measurement<long>((long)measured.Value, measured.Tags)));

        IEnumerable<Measurement<double>> Each(Func<GpuReading, (double? Value, string? Label, string? Is)[]> read) =>
            from gpu in gpus.Read()
            from value in read(gpu)
            let known = value.Value
            where known.HasValue
            let index = Label("gpu", gpu.Index.ToString(System.Globalization.CultureInfo.InvariantCulture))
            select value.Label is null ? new Measurement<double>(known.GetValueOrDefault(), index) : new Measurement<double>(known.GetValueOrDefault(), index, Label(value.Label, value.Is!));
    }

    private static KeyValuePair<string, object?> Label(string name, string value) => new(name, value);
}
