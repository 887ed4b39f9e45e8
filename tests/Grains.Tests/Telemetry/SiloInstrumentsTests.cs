using System.Diagnostics.Metrics;
using AdjointDpm.Grains.Telemetry;
using Microsoft.Extensions.DependencyInjection;

namespace AdjointDpm.Grains.Tests.Telemetry;

public sealed class SiloInstrumentsTests
{
    [Fact]
    public void Gpus_AreToldOfInBaseUnits_AndWhatADeviceDoesNotKnowIsLeftOut()
    {
        using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var meters = services.GetRequiredService<IMeterFactory>();
        using var silo = new SiloInstruments(meters, Path.GetTempPath(), new TwoGpus(), () => { }, () => [(false, false), (true, false), (true, true)]);
        var told = Tell(meters);
        Assert.Equal(0.25, told["adjointdpm.device.utilization gpu=0"]);
        Assert.Equal(3e9, told["adjointdpm.device.memory gpu=0 state=used"]);
        Assert.Equal(8e9, told["adjointdpm.device.memory gpu=1 state=total"]);
        Assert.Equal(120.5, told["adjointdpm.device.power gpu=0"]);
        Assert.Equal(61, told["adjointdpm.device.temperature gpu=0"]);
        Assert.Equal((4.0, 1.0, 2.0), (told["adjointdpm.device.errors gpu=0 kind=ecc_corrected"], told["adjointdpm.device.errors gpu=0 kind=ecc_uncorrected"], told["adjointdpm.device.errors gpu=0 kind=xid"]));
        Assert.DoesNotContain("adjointdpm.device.power gpu=1", told.Keys);
        Assert.DoesNotContain("adjointdpm.device.errors gpu=1 kind=ecc_corrected", told.Keys);
        Assert.Equal(new double[] { 1, 1, 0, 1 }, new[] { "ready", "busy", "cordoned", "draining" }.Select(state => told[$"adjointdpm.workers state={state}"]));
        Assert.InRange(told["adjointdpm.disk state=free"], 0, told["adjointdpm.disk state=total"]);
    }

    /// <summary>Where there is no driver there is no error either.</summary>
    [Fact]
    public void Driver_IsAskedOnlyWhereThereIsOne()
    {
        using var nvml = Nvml.TryOpen();
        if (nvml is null)
            return;
        Assert.All(nvml.Read(), gpu =>
        {
            Assert.InRange(gpu.Utilization ?? 0, 0, 1);
            Assert.InRange(gpu.MemoryUsed ?? 0, 0, gpu.MemoryTotal ?? double.MaxValue);
            Assert.InRange(gpu.Celsius ?? 30, 0, 120);
        });
    }

    [Theory]
    [InlineData("1000000", "600000", "inactive_file 100000", 500_000, 1_000_000)]
    [InlineData("max", "600000", "inactive_file 0", 3 << 20, 8 << 20)]
    [InlineData("99999999999", "600000", "", 3 << 20, 8 << 20)]
    public void Memory_IsTheContainersWhereThatHasALimit(string max, string current, string stat, long used, long total)
    {
        var folder = Directory.CreateTempSubdirectory("adpm-memory");
        File.WriteAllText(Path.Combine(folder.FullName, "meminfo"), "MemTotal:        8192 kB\nMemFree: 17 kB\nMemAvailable:    5120 kB\n");
        foreach (var (file, text) in new[] { ("memory.max", max), ("memory.current", current), ("memory.stat", stat) })
            File.WriteAllText(Path.Combine(folder.FullName, file), text + "\n");
        Assert.Equal(new MemoryReading(used, total), MemoryReading.Read(Path.Combine(folder.FullName, "meminfo"), folder.FullName));
        Assert.Null(MemoryReading.Read(Path.Combine(folder.FullName, "none"), folder.FullName));
        folder.Delete(recursive: true);
    }

    private static Dictionary<string, double> Tell(IMeterFactory meters)
    {
        var told = new Dictionary<string, double>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listening) =>
            {
                if (ReferenceEquals(instrument.Meter.Scope, meters))
                    listening.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<double>((instrument, value, labels, _) => told[Name(instrument, labels)] = value);
        listener.SetMeasurementEventCallback<long>((instrument, value, labels, _) => told[Name(instrument, labels)] = value);
        listener.Start();
        listener.RecordObservableInstruments();
        return told;
    }

    private static string Name(Instrument instrument, ReadOnlySpan<KeyValuePair<string, object?>> labels) =>
        string.Join(' ', labels.ToArray().Select(label => $"{label.Key}={label.Value}").Prepend(instrument.Name));

    private sealed class TwoGpus : IGpus
    {
        public IReadOnlyList<GpuReading> Read() => [new(0, 0.25, 3e9, 8e9, 120.5, 61, 4, 1, 2), new(1, 0.5, 1e9, 8e9, null, 55, null, null, 0)];
    }
}
