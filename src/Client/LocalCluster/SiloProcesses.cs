using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.LocalCluster;

/// <summary>Silos as processes of their own on loopback: the same path as production. Starts again what dies.</summary>
internal sealed class SiloProcesses(LocalClusterOptions options) : ILocalCluster
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, SiloProcess> _current = [];
    private readonly CancellationTokenSource _stopping = new();
    private readonly TaskCompletionSource _lost = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Task> _watches = [];
    private int _alive;
    private bool _killed;
    private volatile bool _left;

    public Task Lost => _lost.Task;

    public IReadOnlyList<int> ProcessIds
    {
        get
        {
            lock (_lock) return [.. _current.Values.Where(silo => silo.Running).Select(silo => silo.Id)];
        }
    }

    public int? HttpPort
    {
        get
        {
            lock (_lock) return _current.Values.Where(silo => silo.Ready.IsCompletedSuccessfully).Select(silo => (int?)silo.Ready.Result.HttpPort).FirstOrDefault();
        }
    }

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var names = Enumerable.Range(0, options.Silos).Select(i => FormattableString.Invariant($"silo-{i}")).ToList();
        var silos = names.Select(Launch).ToList();
        await Task.WhenAll(silos.Select(silo => ReadyAsync(silo, cancellationToken)));
        _alive = silos.Count;
        _watches.AddRange(silos.Select(WatchAsync));
    }

    public void Kill()
    {
        lock (_lock)
        {
            _killed = true;
            foreach (var silo in _current.Values) silo.Kill();
        }
    }

    public void Leave() => _left = true;

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await Task.WhenAll(_watches);
        List<SiloProcess> silos;
        lock (_lock) silos = [.. _current.Values];
        if (!options.Keep && !_left)
        {
            var stopped = await Task.WhenAll(silos.Select(silo => silo.StopAsync(options.StopWithin)));
            foreach (var (silo, _) in silos.Zip(stopped).Where(pair => !pair.Second))
                options.Notice($"{silo.Name} did not stop within {options.StopWithin.TotalSeconds:0} s and was killed.");
        }

        foreach (var silo in silos) silo.Dispose();
        _stopping.Dispose();
    }

    private SiloProcess Launch(string name)
    {
        // Under the lock, so that Kill cannot miss a process that is just being started.
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_killed, this);
            if (_current.Remove(name, out var former)) former.Dispose();
            return _current[name] = SiloProcess.Start(options, name);
        }
    }

    private async Task ReadyAsync(SiloProcess silo, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var ended = silo.EndedAsync(either.Token);
        var first = await Task.WhenAny(silo.Ready, ended, Task.Delay(options.ReadyWithin, TimeProvider.System, either.Token));
        var how = first == ended && ended.IsCompletedSuccessfully ? await ended : null;
        await either.CancelAsync();
        cancellationToken.ThrowIfCancellationRequested();
        if (silo.Ready.IsCompletedSuccessfully) return; // one that joined and died is the watch's affair
        throw new CommandFailure(
            ExitCodes.Failed,
            how is not null ? $"{silo.Name} {how} before it was ready." : $"{silo.Name} was not ready within {options.ReadyWithin.TotalSeconds:0} s.",
            $"The end of its log {silo.LogFile}:\n{silo.LastLines(10)}");
    }

    private async Task WatchAsync(SiloProcess silo)
    {
        var restarts = 0;
        try
        {
            while (true)
            {
                var how = await silo.EndedAsync(_stopping.Token);
                // A Ctrl-C at the terminal reaches the silos as it reaches us; our own stop then follows at once.
                await Task.Delay(options.RestartAfter, TimeProvider.System, _stopping.Token);
                if (restarts == options.MaxRestarts)
                {
                    options.Notice($"{silo.Name} {how} and was started again {restarts} times already: it is given up. Its log: {silo.LogFile}");
                    break;
                }

                restarts++;
                options.Notice($"{silo.Name} {how}. Starting it again ({restarts} of {options.MaxRestarts}). Its log: {silo.LogFile}");
                silo = Launch(silo.Name);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            return;
        }
        catch (Exception e) when (e is CommandFailure or IOException)
        {
            options.Notice($"{silo.Name} cannot be started again: {e.Message}");
        }

        if (Interlocked.Decrement(ref _alive) == 0)
            _lost.TrySetException(new CommandFailure(ExitCodes.Failed, "No silo is left.", $"The end of the log {silo.LogFile}:\n{silo.LastLines(10)}"));
    }
}
