using TorchSharp;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>libtorch's intra-op threads while a piece of work runs. Their number decides bits, and is one for the whole process: devices that want another one wait.</summary>
internal sealed class ThreadCount : IDisposable
{
    private static readonly object Gate = new();
    private static int _users;
    private static int _count;

    private ThreadCount()
    {
    }

    public static ThreadCount Enter(int count)
    {
        lock (Gate)
        {
            while (_users > 0 && _count != count)
                Monitor.Wait(Gate);
            _users++;
            _count = count;
        }
        // Per thread in libtorch's OpenMP back end, so every device's thread sets its own.
        if (torch.get_num_threads() != count)
            torch.set_num_threads(count);
        var actual = torch.get_num_threads();
        if (actual == count)
            return new ThreadCount();
        Leave();
        throw new NotSupportedException($"resources.threads is {count}, but libtorch uses {actual} threads here, which gives other bits. Unset OMP_NUM_THREADS or set resources.threads to {actual}.");
    }

    public void Dispose() => Leave();

    private static void Leave()
    {
        lock (Gate)
        {
            _users--;
            Monitor.PulseAll(Gate);
        }
    }
}
