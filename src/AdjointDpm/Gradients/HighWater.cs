using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Samplers;
using TorchSharp;

namespace AdjointDpm.Gradients;

/// <summary>The peak of a piece of work as the kernel kept it: nothing is sampled, nothing is missed, however busy the machine.</summary>
/// <remarks>
/// While it measures, every larger allocation is a mapping of its own, which goes back to the kernel when it is freed; free blocks that could be taken instead are held meanwhile.
/// The high-water mark of resident memory then follows what is alive, to about a hundred kilobytes. That makes allocations slow.
/// Counts the whole process: other work at the same time shows in it, the runtime's too; <see cref="Collecting"/> keeps that small over many steps.
/// </remarks>
internal static partial class HighWater
{
    private const int TrimThreshold = -1, MmapThreshold = -3, Mapped = 16 << 10;

    // glibc's own thresholds follow the program up to these; setting one ends that, so they are set to where they would get.
    private const int UsualMmap = 32 << 20, UsualTrim = 64 << 20;

    /// <summary>Whether the kernel lets the mark be reset.</summary>
    public static bool Supported { get; } = OperatingSystem.IsLinux() && NativeHeap.InUse() is not null && TryReset();

    // One thread for all measurements: what libtorch keeps for each thread is then there from the second one on.
    private static readonly Lazy<BlockingCollection<Action>> Queue = new(() =>
    {
        var queue = new BlockingCollection<Action>();
        new Thread(() =>
        {
            foreach (var work in queue.GetConsumingEnumerable())
                work();
        })
        { IsBackground = true, Name = "adjointdpm-high-water" }.Start();
        return queue;
    });

    /// <summary>Collects the runtime's own short-lived objects after every step, so that its heap does not grow with their number.</summary>
    public static IProgress<SolveProgress> Collecting { get; } = new Collector();

    /// <summary>Most bytes that the work held at once, above those before. Waits for measurements under way.</summary>
    public static long Of(Action work)
    {
        var (result, differentiable) = (new TaskCompletionSource<long>(), torch.is_grad_enabled());
        Queue.Value.Add(() =>
        {
            try
            {
                using var grad = torch.set_grad_enabled(differentiable);
                result.SetResult(OnThisThread(work));
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
        });
        return result.Task.GetAwaiter().GetResult();
    }

    private static long OnThisThread(Action work)
    {
        // The runtime's own garbage would otherwise go back meanwhile, and hide as much of the peak.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        _ = Mallopt(MmapThreshold, Mapped);
        var held = HoldFreeBlocks();
        try
        {
            _ = MallocTrim(0);
            TryReset();
            var before = Read();
            work();
            return Math.Max(0, Read() - before);
        }
        finally
        {
            held.ForEach(Free);
            _ = Mallopt(MmapThreshold, UsualMmap);
            _ = Mallopt(TrimThreshold, UsualTrim);
        }
    }

    // Takes this thread's free blocks until the next one would be a mapping: the second bit of the size before it says so.
    private static List<nint> HoldFreeBlocks()
    {
        List<nint> held = [];
        while (true)
        {
            var block = Malloc(Mapped);
            if ((Marshal.ReadInt64(block, -sizeof(long)) & 2) == 0)
            {
                held.Add(block);
                continue;
            }

            Free(block);
            return held;
        }
    }

    private static bool TryReset()
    {
        try
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static long Read()
    {
        const string Field = "VmHWM:";
        var line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(Field, StringComparison.Ordinal));
        return 1024 * long.Parse(line.AsSpan(Field.Length).Trim(" \tkB"), CultureInfo.InvariantCulture);
    }

    [LibraryImport("libc.so.6", EntryPoint = "mallopt")]
    private static partial int Mallopt(int parameter, int value);

    [LibraryImport("libc.so.6", EntryPoint = "malloc")]
    private static partial nint Malloc(nuint size);

    [LibraryImport("libc.so.6", EntryPoint = "free")]
    private static partial void Free(nint block);

    [LibraryImport("libc.so.6", EntryPoint = "malloc_trim")]
    private static partial int MallocTrim(nuint pad);

    private sealed class Collector : IProgress<SolveProgress>
    {
        public void Report(SolveProgress value) => GC.Collect(0);
    }
}
