using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Grains.Tests.Security;

/// <summary>Files that are read again when they change.</summary>
public sealed class ReloadedTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-reloaded-");
    private readonly FakeTimeProvider _clock = new();
    private readonly Heard _log = new();

    private string Watched => Path.Combine(_folder.FullName, "file");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void ChangeThatCannotBeReadForAMoment_IsReadAtTheNextLook()
    {
        Exception? fault = null;
        File.WriteAllText(Watched, "one");
        var reloaded = new Reloaded<string>([Watched], () => fault is null ? File.ReadAllText(Watched) : throw fault, _clock, _log);
        File.WriteAllText(Watched, "two");
        foreach (var error in new Exception[] { new IOException("the volume is away"), new InvalidDataException("it cannot be read", new IOException("still")) })
        {
            fault = error;
            Assert.Equal("one", Look());
        }
        // Said once, however often it is looked at.
        Assert.Single(_log.Warnings);
        fault = null;
        Assert.Equal("two", Look());
        Assert.Single(_log.Warnings);

        string Look()
        {
            _clock.Advance(TimeSpan.FromSeconds(3));
            return reloaded.Value;
        }
    }

    private sealed class Heard : ILogger
    {
        public List<string> Warnings { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (logLevel == LogLevel.Warning)
                Warnings.Add(formatter(state, exception));
        }
    }
}
