namespace AdjointDpm.Tests.Models;

/// <summary>Collects garbage and runs finalisers without a pause until disposed. For classes of the collection <see cref="Alone"/>.</summary>
internal sealed class BusyCollector : IDisposable
{
    private readonly CancellationTokenSource _done = new();
    private readonly Thread _thread;

    public BusyCollector()
    {
        _thread = new Thread(() =>
        {
            while (!_done.IsCancellationRequested)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        });
        _thread.Start();
    }

    public void Dispose()
    {
        _done.Cancel();
        _thread.Join();
        _done.Dispose();
    }
}
