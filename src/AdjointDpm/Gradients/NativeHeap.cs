using System.Runtime.InteropServices;

namespace AdjointDpm.Gradients;

/// <summary>Bytes that the process has from the C library's malloc, where libtorch has its CPU tensors from.</summary>
internal static partial class NativeHeap
{
    // Only glibc 2.33 and later tells what is in use.
    private static readonly bool HasMallinfo = OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libc.so.6", out var libc) && NativeLibrary.TryGetExport(libc, "mallinfo2", out _);

    /// <summary>Bytes in use, to half a page for each mapping, whatever the process still holds free; null where the C library does not tell.</summary>
    public static long? InUse()
    {
        if (!HasMallinfo)
            return null;
        var info = Mallinfo2();
        // A mapping is whole pages, and has a header besides: on average half a page more than was asked for.
        return (long)info.InUse + (long)info.Mapped - ((long)info.Hblks * Environment.SystemPageSize / 2);
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
