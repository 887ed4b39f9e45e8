using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Progress;

/// <summary>Bars that redraw themselves, on a terminal.</summary>
internal sealed class LiveProgress : IProgressReport
{
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(250);

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly ExperimentProgress _progress;
    private readonly Terminal _terminal;
    private readonly Task _drawing;

    public LiveProgress(Terminal terminal, TimeProvider time)
    {
        (_terminal, _progress) = (terminal, new ExperimentProgress(time));
        _drawing = terminal.Error.Console.Live(new Text("")).AutoClear(true).StartAsync(async live =>
        {
            using var timer = new PeriodicTimer(Redraw, time);
            try
            {
                do
                {
                    lock (_lock) live.UpdateTarget(ProgressView.Of(_progress, terminal.Error.Width));
                }
                while (await timer.WaitForNextTickAsync(_stop.Token));
            }
            catch (OperationCanceledException)
            {
                // asked to stop: the bars are cleared
            }
        });
    }

    public bool ShowsState => true;

    public void Refresh(ExperimentSnapshot experiment)
    {
        lock (_lock) _progress.Refresh(experiment);
    }

    public void Happened(ExperimentEvent happened)
    {
        lock (_lock) _progress.Happened(happened);
        if (happened.Kind is EventKind.ShardReissued or EventKind.TrialEnded or EventKind.MemoryShort or EventKind.ArithmeticChanged) Notice(EventWords.Of(happened));
    }

    public void Notice(string text) => _terminal.Note(Markup.Escape(text));

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _drawing;
        _stop.Dispose();
    }
}
