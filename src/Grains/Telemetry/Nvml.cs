using System.Runtime.InteropServices;
using System.Text;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>What a GPU tells of itself; null where it does not know.</summary>
internal sealed record GpuReading(int Index, double? Utilization, double? MemoryUsed, double? MemoryTotal, double? Watts, double? Celsius, long? EccCorrected, long? EccUncorrected, long Xid);

/// <summary>The machine's GPUs.</summary>
internal interface IGpus
{
    IReadOnlyList<GpuReading> Read();
}

/// <summary>NVIDIA's management library, which comes with the driver. Signatures and constants are those of nvml.h (version 12).</summary>
internal sealed partial class Nvml : IGpus, IDisposable
{
    private const string Library = "libnvidia-ml.so.1";
    private const int Success = 0, Gpu = 0, Corrected = 0, Uncorrected = 1, Volatile = 0;
    private const ulong XidCriticalError = 8;

    private readonly Lock _lock = new();
    private readonly nint[] _devices;
    private readonly long[] _xids;
    private readonly nint _events;
    private bool _ended;

    private Nvml(nint[] devices)
    {
        (_devices, _xids) = (devices, new long[devices.Length]);
        if (EventSetCreate(out _events) != Success)
            _events = 0;
        foreach (var device in devices)
            if (_events != 0)
                // One that has no such events has none to tell.
                _ = RegisterEvents(device, XidCriticalError, _events);
    }

    /// <summary>Null on a machine without NVIDIA's driver, or without a GPU.</summary>
    public static Nvml? TryOpen()
    {
        uint count;
        try
        {
            if (Init() != Success || GetCount(out count) != Success || count == 0)
                return null;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return null;
        }
        return new Nvml([.. Enumerable.Range(0, (int)count).Select(i => GetHandle((uint)i, out var device) == Success ? device : 0).Where(device => device != 0)]);
    }

    /// <summary>What a GPU is called; null without NVIDIA's driver, or when there is no such GPU.</summary>
    public static string? NameOf(int index) => Ask(index, device =>
    {
        var name = new byte[96];
        return GetName(device, name, (uint)name.Length) == Success ? Encoding.UTF8.GetString(name).Split('\0')[0] : null;
    });

    /// <summary>Bytes of a GPU's memory; null without NVIDIA's driver, or when there is no such GPU.</summary>
    public static long? MemoryOf(int index) => Ask<long?>(index, device => GetMemoryInfo(device, out var memory) == Success ? (long)memory.Total : null);

    private static T? Ask<T>(int index, Func<nint, T?> ask)
    {
        try
        {
            if (Init() != Success)
                return default;
            try
            {
                return GetHandle((uint)index, out var device) == Success ? ask(device) : default;
            }
            finally
            {
                _ = Shutdown();
            }
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return default;
        }
    }

    public IReadOnlyList<GpuReading> Read()
    {
        lock (_lock)
        {
            if (_ended)
                return [];
            CollectXids();
            return [.. _devices.Select(Read)];
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_ended)
                return;
            _ended = true;
            if (_events != 0)
                _ = EventSetFree(_events);
            _ = Shutdown();
        }
    }

    private GpuReading Read(nint device, int index)
    {
        double? utilization = GetUtilizationRates(device, out var rates) == Success ? rates.Gpu / 100.0 : null;
        var (used, total) = GetMemoryInfo(device, out var memory) == Success ? ((double?)memory.Used, (double?)memory.Total) : default;
        double? watts = GetPowerUsage(device, out var milliwatts) == Success ? milliwatts / 1e3 : null;
        double? celsius = GetTemperature(device, Gpu, out var temperature) == Success ? temperature : null;
        return new(index, utilization, used, total, watts, celsius, Ecc(Corrected), Ecc(Uncorrected), _xids[index]);

        long? Ecc(int kind) => GetTotalEccErrors(device, kind, Volatile, out var count) == Success ? (long)count : null;
    }

    /// <summary>Takes what has happened since the last look, without waiting.</summary>
    private void CollectXids()
    {
        while (_events != 0 && EventSetWait(_events, out var happened, 0) == Success)
            if (Array.IndexOf(_devices, happened.Device) is >= 0 and var index && happened.Type == XidCriticalError)
                _xids[index]++;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Utilization
    {
        public uint Gpu;
        public uint Memory;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Memory
    {
        public ulong Total;
        public ulong Free;
        public ulong Used;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct EventData
    {
        public nint Device;
        public ulong Type;
        public ulong Data;
        public uint GpuInstance;
        public uint ComputeInstance;
    }

    [LibraryImport(Library, EntryPoint = "nvmlInit_v2")]
    private static partial int Init();

    [LibraryImport(Library, EntryPoint = "nvmlShutdown")]
    private static partial int Shutdown();

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetCount_v2")]
    private static partial int GetCount(out uint count);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetHandleByIndex_v2")]
    private static partial int GetHandle(uint index, out nint device);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetName")]
    private static partial int GetName(nint device, [Out] byte[] name, uint length);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetUtilizationRates")]
    private static partial int GetUtilizationRates(nint device, out Utilization rates);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetMemoryInfo")]
    private static partial int GetMemoryInfo(nint device, out Memory memory);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetPowerUsage")]
    private static partial int GetPowerUsage(nint device, out uint milliwatts);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetTemperature")]
    private static partial int GetTemperature(nint device, int sensor, out uint celsius);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceGetTotalEccErrors")]
    private static partial int GetTotalEccErrors(nint device, int kind, int counter, out ulong count);

    [LibraryImport(Library, EntryPoint = "nvmlEventSetCreate")]
    private static partial int EventSetCreate(out nint set);

    [LibraryImport(Library, EntryPoint = "nvmlEventSetFree")]
    private static partial int EventSetFree(nint set);

    [LibraryImport(Library, EntryPoint = "nvmlDeviceRegisterEvents")]
    private static partial int RegisterEvents(nint device, ulong types, nint set);

    [LibraryImport(Library, EntryPoint = "nvmlEventSetWait_v2")]
    private static partial int EventSetWait(nint set, out EventData happened, uint milliseconds);
}
