using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>The newest messages of this silo's log, for people who do not see where it is written. A few thousand in memory, and none of yesterday.</summary>
[ProviderAlias("Recent")]
internal sealed class RecentLog(TimeProvider time) : ILoggerProvider
{
    private const int Most = 2000, Longest = 2000;

    private readonly Lock _lock = new();
    private readonly Queue<RecentMessage> _messages = [];
    private long _number;

    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    /// <summary>The newest after a number, the oldest of them first.</summary>
    public IReadOnlyList<RecentMessage> After(long number, int most)
    {
        lock (_lock)
            return [.. _messages.Where(message => message.Number > number).TakeLast(most)];
    }

    public void Dispose()
    {
    }

    private void Add(LogLevel level, string text)
    {
        lock (_lock)
        {
            _messages.Enqueue(new RecentMessage(++_number, time.GetUtcNow(), level, text.Length > Longest ? text[..Longest] + "…" : text));
            if (_messages.Count > Most)
                _messages.Dequeue();
        }
    }

    private sealed class Logger(RecentLog log, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel is >= LogLevel.Information and < LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
                log.Add(logLevel, $"{category}: {formatter(state, exception)}{(exception is null ? "" : $" ({exception.GetType().Name}: {exception.Message})")}".ReplaceLineEndings(" "));
        }
    }
}

/// <summary>A message as it is kept.</summary>
internal readonly record struct RecentMessage(long Number, DateTimeOffset Time, LogLevel Level, string Text);
