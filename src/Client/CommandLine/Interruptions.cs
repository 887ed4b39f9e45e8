using System.Runtime.InteropServices;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Ctrl-C and SIGTERM: the first asks politely, the second does not. A terminal that closes asks for nothing.</summary>
internal sealed class Interruptions : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly List<PosixSignalRegistration> _signals = [];
    private readonly Action<string> _say;
    private readonly Action<int> _exit;
    private Action? _second, _leave;
    private int _count;

    public Interruptions(Action<string> say, Action<int> exit) => (_say, _exit) = (say, exit);

    public CancellationToken Token => _first.Token;

    /// <summary>Whether it was the terminal that went, and not somebody who asked to stop.</summary>
    public bool HungUp { get; private set; }

    /// <summary>Listens to the process's signals.</summary>
    public void Listen()
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
        {
            _signals.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                if (context.Signal == PosixSignal.SIGHUP) HangUp();
                else Interrupt();
            }));
        }
    }

    /// <summary>What goes on without us when the terminal closes.</summary>
    public IDisposable OnHangUp(Action leave)
    {
        _leave = leave;
        return new Registration(() => _leave = null);
    }

    /// <summary>The terminal is closed, or the connection to it lost: nobody is there to be told, and nobody has asked to stop.</summary>
    public void HangUp()
    {
        HungUp = true;
        _leave?.Invoke();
        _first.Cancel();
    }

    /// <summary>What must not outlive us even when there is no time to stop it.</summary>
    public IDisposable OnSecond(Action kill)
    {
        _second = kill;
        return new Registration(() => _second = null);
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

    private sealed class Registration(Action end) : IDisposable
    {
        public void Dispose() => end();
    }
}
