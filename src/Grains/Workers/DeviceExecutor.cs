using System.Collections.Concurrent;

namespace AdjointDpm.Grains.Workers;

/// <summary>The one thread of a device: engines are made, used and disposed on it and never elsewhere.</summary>
/// <remarks>Below normal priority, so that grains and membership probes keep their share of the processor while networks run.</remarks>
internal sealed class DeviceExecutor : IDisposable
{
    private readonly FairQueue<Action<Func<IGradientEngine>>> _queue = new();
    private readonly IGradientEngineFactory _engines;
    private readonly TimeProvider _time;
    private readonly string _device;
    private bool _ended;

    public DeviceExecutor(string device, IGradientEngineFactory engines, TimeProvider time)
    {
        (_device, _engines, _time) = (device, engines, time);
        new Thread(Loop) { IsBackground = true, Name = $"device {device}", Priority = ThreadPriority.BelowNormal }.Start();
    }

    public Task<T> RunAsync<T>(WorkShare share, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken)
    {
        // Continuations elsewhere: they must not run on, or block, the device's thread.
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        void Run(Func<IGradientEngine> engine)
        {
            try
            {
                cancellationToken.ThrowIfCancellationRequested();
                T result;
                using (begin())
                    result = work(engine());
                done.TrySetResult(result);
            }
            catch (OperationCanceledException)
            {
                done.TrySetCanceled(cancellationToken);
            }
#pragma warning disable CA1031 // Handed to the awaiting grain, which classifies it.
            catch (Exception e)
#pragma warning restore CA1031
            {
                done.TrySetException(e);
            }
        }
        lock (_queue)
        {
            if (_ended)
                return Task.FromCanceled<T>(new CancellationToken(canceled: true));
            _queue.Add(share, Run);
            Monitor.Pulse(_queue);
        }
        return done.Task;
    }

    /// <summary>Takes no more work; what waits is still done.</summary>
    public void Dispose()
    {
        lock (_queue)
        {
            _ended = true;
            Monitor.Pulse(_queue);
        }
    }

    private void Loop()
    {
        IGradientEngine? engine = null;
        while (Next() is var (share, work))
        {
            var started = _time.GetTimestamp();
            // Made inside the work, so that a device that cannot be opened fails that work and not the process.
            work(() => engine ??= _engines.Create(_device));
            lock (_queue)
                _queue.Used(share, _time.GetElapsedTime(started));
        }
        engine?.Dispose();
    }

    /// <summary>Waits for work; null when there will be none.</summary>
    private (WorkShare Share, Action<Func<IGradientEngine>> Work)? Next()
    {
        lock (_queue)
        {
            while (true)
            {
                if (_queue.TryTake(out var share, out var work))
                    return (share, work);
                if (_ended)
                    return null;
                Monitor.Wait(_queue);
            }
        }
    }
}

/// <summary>Runs work on a device of this silo, one piece after another, in the order of <see cref="FairQueue{T}"/>.</summary>
internal interface IDevices
{
    /// <param name="device">Device, such as <c>cpu:0</c>.</param>
    /// <param name="share">On whose account: decides what goes first of what waits.</param>
    /// <param name="begin">Runs on the device's thread when the work's turn has come; what it returns is disposed when the work has ended, in whatever way.</param>
    /// <param name="work">Runs on the device's thread.</param>
    /// <param name="cancellationToken">Ends work that waits, and is given to work that runs.</param>
    Task<T> RunAsync<T>(string device, WorkShare share, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken);

    /// <summary>Waits for the disk or the bucket, while the device goes on with other work.</summary>
    /// <param name="work">Always called, so that it can clean up; waits for the disk on the thread that it is called on.</param>
    /// <param name="cancellationToken">Given to the work.</param>
    Task FinishAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken);
}

/// <summary>The executors of this silo's devices, made when first used and ended with the silo.</summary>
internal sealed class DeviceExecutors(IGradientEngineFactory engines, TimeProvider time) : IDevices, IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<DeviceExecutor>> _executors = new();

    public Task<T> RunAsync<T>(string device, WorkShare share, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken) =>
        _executors.GetOrAdd(device, name => new(() => new DeviceExecutor(name, engines, time))).Value.RunAsync(share, begin, work, cancellationToken);

    public Task FinishAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken) =>
        Task.Factory.StartNew(() => work(cancellationToken), CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default).Unwrap();

    public void Dispose()
    {
        foreach (var executor in _executors.Values)
            if (executor.IsValueCreated)
                executor.Value.Dispose();
    }
}
