using System.Runtime.InteropServices;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Ctrl-C and SIGTERM: the first asks politely, the second does not.</summary>
internal sealed class Interruptions : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly List<PosixSignalRegistration> _signals = [];
    private readonly Action<string> _say;
    private readonly Action<int> _exit;
    private Action? _second;
    private int _count;

    public Interruptions(Action<string> say, Action<int> exit) => (_say, _exit) = (say, exit);

    public CancellationToken Token => _first.Token;

    /// <summary>Listens to the process's signals.</summary>
    public void Listen()
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
        {
            _signals.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                Interrupt();
            }));
        }
    }

    /// <summary>What must not outlive us even when there is no time to stop it.</summary>
    public IDisposable OnSecond(Action kill)
    {
        _second = kill;
        return new Registration(this);
    }

    public void Interrupt()
    {
        if (Interlocked.Increment(ref _count) == 1)
        {
            if (_second is not null) _say("Stopping. Once more to kill.");
            _first.Cancel();
            return;
        }

        _second?.Invoke();
        _exit(ExitCodes.Interrupted);
    }

    public void Dispose()
    {
        foreach (var signal in _signals) signal.Dispose();
        _first.Dispose();
    }

    private sealed class Registration(Interruptions owner) : IDisposable
    {
        public void Dispose() => owner._second = null;
    }
}
