using AdjointDpm.Client.Rendering;
using Spectre.Console;

namespace AdjointDpm.Client.Progress;

/// <summary>One bar with the time that is left, for work whose size is known, on standard error; in a log a line now and then.</summary>
internal sealed class WorkBar : IAsyncDisposable
{
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(250), Line = TimeSpan.FromSeconds(10);

    private const int Width = 30;

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly Terminal _terminal;
    private readonly TimeProvider _time;
    private readonly Task _drawing;
    private string _what;
    private double _done, _total, _first;
    private long _since, _told;

    /// <param name="terminal">Where to.</param>
    /// <param name="time">Clock.</param>
    /// <param name="what">What is done, as it begins.</param>
    public WorkBar(Terminal terminal, TimeProvider time, string what)
    {
        (_terminal, _time, _what, _since, _told) = (terminal, time, what, time.GetTimestamp(), time.GetTimestamp());
        _drawing = terminal.Live ? DrawAsync() : Task.CompletedTask;
    }

    /// <summary>How far it is.</summary>
    /// <param name="what">What is done now.</param>
    /// <param name="done">So many.</param>
    /// <param name="total">Of so many; 0 when nobody knows.</param>
    public void Report(string what, double done, double total)
    {
        lock (_lock)
        {
            // The clock runs from the first that is done of a kind: what comes before says nothing of one.
            if (what != _what || total != _total || _first >= done) (_since, _first) = (_time.GetTimestamp(), done);
            (_what, _done, _total) = (what, done, total);
            if (_terminal.Live || _time.GetElapsedTime(_told) < Line) return;
            _told = _time.GetTimestamp();
        }

        _terminal.Note(Markup.Escape(Plain()));
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _drawing;
        _stop.Dispose();
    }

    /// <summary>The bar as text with markup.</summary>
    internal string Text()
    {
        lock (_lock)
        {
            var what = Markup.Escape(_what);
            return _total <= 0
                ? $"{what}  [grey]{Words.Span(_time.GetElapsedTime(_since))}[/]"
                : FormattableString.Invariant($"{Bar.Of(_done / _total, Width)} {(int)(100 * Math.Clamp(_done / _total, 0, 1)),3}%  {what}, {_done:0.#} of {_total:0.#}{(Left is { } left ? $"  eta {Words.Span(left)}" : "")}");
        }
    }

    private string Plain()
    {
        lock (_lock)
            return _total <= 0 ? _what : FormattableString.Invariant($"{_what}, {_done:0.#} of {_total:0.#}{(Left is { } left ? $", eta {Words.Span(left)}" : "")}");
    }

    private TimeSpan? Left => _done > _first && _done <= _total ? _time.GetElapsedTime(_since) / (_done - _first) * (_total - _done) : null;

    private Task DrawAsync() => _terminal.Error.Console.Live(new Text("")).AutoClear(true).StartAsync(async live =>
    {
        using var timer = new PeriodicTimer(Redraw, _time);
        try
        {
            do live.UpdateTarget(new Markup(Text()) { Overflow = Overflow.Crop });
            while (await timer.WaitForNextTickAsync(_stop.Token));
        }
        catch (OperationCanceledException)
        {
            // done: the bar is cleared
        }
    });
}
