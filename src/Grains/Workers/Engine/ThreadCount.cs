using TorchSharp;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>libtorch's intra-op threads while a piece of work runs. Their number decides bits, and is one for the whole process: devices that want another one wait.</summary>
internal sealed class ThreadCount : IDisposable
{
    private static readonly object Gate = new();
    private static int _users;
    private static int _count;
    private static long _meetings;

    private readonly long _met;

    private ThreadCount(long met) => _met = met;

    /// <summary>Whether nothing else was computed by this process so far: what its heap has grown by is this work's.</summary>
    public bool IsAlone => Volatile.Read(ref _meetings) == _met;

    public static ThreadCount Enter(int count)
    {
        long met;
        lock (Gate)
        {
            while (_users > 0 && _count != count)
                Monitor.Wait(Gate);
            // Whoever comes to others is not alone from the start.
            met = _users > 0 ? _meetings++ : _meetings;
            _users++;
            _count = count;
        }
        // Per thread in libtorch's OpenMP back end, so every device's thread sets its own.
        if (torch.get_num_threads() != count)
            torch.set_num_threads(count);
        var actual = torch.get_num_threads();
        if (actual == count)
            return new ThreadCount(met);
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
