using System.Collections.Concurrent;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Workers;

/// <summary>The one thread of a worker: its engine is made, used and disposed on it and never elsewhere.</summary>
/// <remarks>Below normal priority, so that grains and membership probes keep their share of the processor while networks run.</remarks>
internal sealed class DeviceExecutor : IDeviceMemoryHolder, IDisposable
{
    private readonly FairQueue<Action> _queue = new();
    private readonly IGradientEngineFactory _engines;
    private readonly TimeProvider _time;
    private readonly string _device;
    private readonly DeviceMemory? _memory;
    private IGradientEngine? _engine;
    private bool _ended;
    private bool _woken;

    /// <param name="device">Device, such as <c>cpu:0</c>, without the number of a worker on it.</param>
    /// <param name="engines">Makes its engine.</param>
    /// <param name="time">Measures whose time the device was.</param>
    /// <param name="memory">What it shares with the other workers of its device; null when it is the only one.</param>
    public DeviceExecutor(string device, IGradientEngineFactory engines, TimeProvider time, DeviceMemory? memory = null)
    {
        (_device, _engines, _time, _memory) = (device, engines, time, memory);
        new Thread(Loop) { IsBackground = true, Name = $"device {device}", Priority = ThreadPriority.BelowNormal }.Start();
    }

    // Made when there is work, so that a device that cannot be opened fails that work and not the process.
    private IGradientEngine Engine => _engine ??= _engines.Create(_device);

    long IDeviceMemoryHolder.HeldBytes => _engine?.HeldBytes ?? 0;

    public Task<T> RunAsync<T>(DeviceTask task, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken)
    {
        // Continuations elsewhere: they must not run on, or block, the device's thread.
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        void Run()
        {
            try
            {
                cancellationToken.ThrowIfCancellationRequested();
                T result;
                using (_memory?.Enter(this, () => task.Above(Engine), cancellationToken))
                using (begin())
                    result = work(Engine);
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
            _queue.Add(task.Share, Run);
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

    void IDeviceMemoryHolder.LetGo()
    {
        _engine?.Dispose();
        _engine = null;
    }

    void IDeviceMemoryHolder.Wake()
    {
        lock (_queue)
        {
            _woken = true;
            Monitor.Pulse(_queue);
        }
    }

    private void Loop()
    {
        while (Next() is var (share, work))
        {
            var started = _time.GetTimestamp();
            work();
            lock (_queue)
                _queue.Used(share, _time.GetElapsedTime(started));
        }
        _engine?.Dispose();
    }

    /// <summary>Waits for work; null when there will be none.</summary>
    private (WorkShare Share, Action Work)? Next()
    {
        while (true)
        {
            lock (_queue)
            {
                if (_queue.TryTake(out var share, out var work))
                    return (share, work);
                if (_ended)
                    return null;
                if (!_woken)
                    Monitor.Wait(_queue);
                _woken = false;
            }
            // Not within the lock: others wake this worker from within theirs.
            _memory?.LetGoIfAsked(this);
        }
    }
}

/// <summary>What a device should know of work before it begins.</summary>
/// <param name="Share">On whose account: decides what goes first of what waits.</param>
/// <param name="Above">Bytes that it needs above what the worker's engine holds; null when nobody knows. Called on the worker's thread, and only where several workers share a device.</param>
internal readonly record struct DeviceTask(WorkShare Share, Func<IGradientEngine, long?> Above);

/// <summary>Runs work on a device of this silo, one piece after another, in the order of <see cref="FairQueue{T}"/>.</summary>
internal interface IDevices
{
    /// <param name="device">Device of a worker, such as <c>cpu:0</c>, or <c>cpu:0.1</c> for the second worker on it.</param>
    /// <param name="task">Whose it is, and what it needs.</param>
    /// <param name="begin">Runs on the device's thread when the work's turn has come; what it returns is disposed when the work has ended, in whatever way.</param>
    /// <param name="work">Runs on the device's thread.</param>
    /// <param name="cancellationToken">Ends work that waits, and is given to work that runs.</param>
    Task<T> RunAsync<T>(string device, DeviceTask task, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken);

    /// <summary>Waits for the disk or the bucket, while the device goes on with other work.</summary>
    /// <param name="work">Always called, so that it can clean up; waits for the disk on the thread that it is called on.</param>
    /// <param name="cancellationToken">Given to the work.</param>
    Task FinishAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken);
}

/// <summary>The executors of this silo's devices, made when first used and ended with the silo.</summary>
internal sealed class DeviceExecutors(IGradientEngineFactory engines, WorkerOptions options, TimeProvider time) : IDevices, IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<DeviceExecutor>> _executors = new();
    private readonly ConcurrentDictionary<string, DeviceMemory> _memories = new();

    public Task<T> RunAsync<T>(string device, DeviceTask task, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken) =>
        _executors.GetOrAdd(device, name => new(() => new DeviceExecutor(WorkerOptions.DeviceOf(name), engines, time, MemoryOf(WorkerOptions.DeviceOf(name))))).Value.RunAsync(task, begin, work, cancellationToken);

    public Task FinishAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken) =>
        Task.Factory.StartNew(() => work(cancellationToken), CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default).Unwrap();

    private DeviceMemory? MemoryOf(string device) => options.ShardsAtOnce == 1 ? null : _memories.GetOrAdd(device, name => new DeviceMemory(options.DeviceBytes ?? Hardware.MemoryOf(name)));

    public void Dispose()
    {
        foreach (var executor in _executors.Values)
            if (executor.IsValueCreated)
                executor.Value.Dispose();
    }
}
