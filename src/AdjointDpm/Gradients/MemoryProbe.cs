using System.Runtime.InteropServices;
using TorchSharp;

namespace AdjointDpm.Gradients;

/// <summary>Watches how many tensors and native bytes are alive.</summary>
internal sealed partial class MemoryProbe
{
    private readonly long _tensors = LiveTensors;
    private readonly long? _bytes = LiveBytes();

    /// <summary>Most tensors seen above the start.</summary>
    public long PeakTensors { get; private set; }

    /// <summary>Most bytes seen above the start, if the C library tells.</summary>
    public long? PeakBytes { get; private set; }

    private static long LiveTensors => DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;

    /// <summary>Notes the present; cheap beside one evaluation of a network.</summary>
    public void Look()
    {
        PeakTensors = Math.Max(PeakTensors, LiveTensors - _tensors);
        if (_bytes is { } before)
            PeakBytes = Math.Max(PeakBytes ?? 0, LiveBytes()!.Value - before);
    }

    // libtorch allocates CPU tensors with malloc; only glibc 2.33 and later reports what is in use.
    private static readonly bool HasMallinfo = OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libc.so.6", out var libc) && NativeLibrary.TryGetExport(libc, "mallinfo2", out _);

    private static long? LiveBytes()
    {
        if (!HasMallinfo)
            return null;
        var info = Mallinfo2();
        return (long)info.InUse + (long)info.Mapped;
    }

    [LibraryImport("libc.so.6", EntryPoint = "mallinfo2")]
    private static partial AllocatorUse Mallinfo2();

    /// <summary>struct mallinfo2 of malloc.h: uordblks and hblkhd are what is in use.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct AllocatorUse
    {
        public nuint Arena, Ordblks, Smblks, Hblks, Mapped, Usmblks, Fsmblks, InUse, Fordblks, Keepcost;
    }
}
