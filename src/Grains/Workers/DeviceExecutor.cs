using System.Collections.Concurrent;

namespace AdjointDpm.Grains.Workers;

/// <summary>The one thread of a device: engines are made, used and disposed on it and never elsewhere.</summary>
/// <remarks>Below normal priority, so that grains and membership probes keep their share of the processor while networks run.</remarks>
internal sealed class DeviceExecutor : IDisposable
{
    private readonly BlockingCollection<Action<Func<IGradientEngine>>> _queue = [];
    private readonly IGradientEngineFactory _engines;
    private readonly string _device;

    public DeviceExecutor(string device, IGradientEngineFactory engines)
    {
        (_device, _engines) = (device, engines);
        new Thread(Loop) { IsBackground = true, Name = $"device {device}", Priority = ThreadPriority.BelowNormal }.Start();
    }

    public Task<T> RunAsync<T>(Func<IGradientEngine, T> work, CancellationToken cancellationToken)
    {
        // Continuations elsewhere: they must not run on, or block, the device's thread.
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        void Run(Func<IGradientEngine> engine)
        {
            try
            {
                cancellationToken.ThrowIfCancellationRequested();
                done.TrySetResult(work(engine()));
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
        try
        {
            _queue.Add(Run, cancellationToken);
        }
        catch (InvalidOperationException)
        {
            done.TrySetCanceled(CancellationToken.None);
        }
        return done.Task;
    }

    public void Dispose() => _queue.CompleteAdding();

    private void Loop()
    {
        IGradientEngine? engine = null;
        foreach (var work in _queue.GetConsumingEnumerable())
            // Made inside the work, so that a device that cannot be opened fails that work and not the process.
            work(() => engine ??= _engines.Create(_device));
        engine?.Dispose();
    }
}

/// <summary>Runs work on a device of this silo, one piece after another.</summary>
internal interface IDevices
{
    Task<T> RunAsync<T>(string device, Func<IGradientEngine, T> work, CancellationToken cancellationToken);

    /// <summary>Waits for the disk, while the device goes on with other work.</summary>
    Task FinishAsync(Action work);
}

/// <summary>The executors of this silo's devices, made when first used and ended with the silo.</summary>
internal sealed class DeviceExecutors(IGradientEngineFactory engines) : IDevices, IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<DeviceExecutor>> _executors = new();

    public Task<T> RunAsync<T>(string device, Func<IGradientEngine, T> work, CancellationToken cancellationToken) =>
        _executors.GetOrAdd(device, name => new(() => new DeviceExecutor(name, engines))).Value.RunAsync(work, cancellationToken);

    public Task FinishAsync(Action work) => Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);

    public void Dispose()
    {
        foreach (var executor in _executors.Values)
            if (executor.IsValueCreated)
                executor.Value.Dispose();
    }
}
