using System.Diagnostics;
using System.Runtime.InteropServices;

namespace AdjointDpm.Cluster.Tests.Client;

/// <summary>The client's program in a process of its own, as a user starts it.</summary>
internal sealed partial class AdpmProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly List<string> _out = [], _error = [];

    private AdpmProcess(Process process) => _process = process;

    // Its own folder, not that of these tests: here other frameworks are, and other packages missing.
    private static string Program { get; } = Path.Combine(AppContext.BaseDirectory, "..", "..", "Client", Path.GetFileName(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory)), "adpm.dll");

    public string Out
    {
        get
        {
            lock (_out) return string.Concat(_out.Select(line => line + "\n"));
        }
    }

    public string Error
    {
        get
        {
            lock (_error) return string.Concat(_error.Select(line => line + "\n"));
        }
    }

    public int Id => _process.Id;

    /// <summary>Starts it in a folder, with the silo that is built beside these tests.</summary>
    public static AdpmProcess Start(string folder, params string[] words)
    {
        var start = new ProcessStartInfo("dotnet", [Program, .. words]) { RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = folder };
        start.Environment["ADJOINTDPM_SILO"] = SiloProcess.Program;
        var adpm = new AdpmProcess(Process.Start(start)!);
        adpm._process.OutputDataReceived += (_, line) => Add(adpm._out, line.Data);
        adpm._process.ErrorDataReceived += (_, line) => Add(adpm._error, line.Data);
        adpm._process.BeginOutputReadLine();
        adpm._process.BeginErrorReadLine();
        return adpm;
    }

    /// <summary>Runs it to its end.</summary>
    public static async Task<(int ExitCode, string Out, string Error)> RunAsync(string folder, params string[] words)
    {
        await using var adpm = Start(folder, words);
        var code = await adpm.EndedAsync(TimeSpan.FromMinutes(4));
        return (code, adpm.Out, adpm.Error);
    }

    /// <summary>Waits until it has said something on standard error.</summary>
    public async Task SaidAsync(string text)
    {
        for (var waited = Stopwatch.StartNew(); !Error.Contains(text, StringComparison.Ordinal); await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, TestContext.Current.CancellationToken))
            Assert.True(waited.Elapsed < TimeSpan.FromMinutes(3) && !_process.HasExited, $"It did not say '{text}':\n{Error}\n{Out}");
    }

    public void Signal(int signal) => Assert.Equal(0, SendSignal(_process.Id, signal));

    public async Task<int> EndedAsync(TimeSpan patience)
    {
        try
        {
            await _process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(patience, TestContext.Current.CancellationToken);
        }
        catch (TimeoutException e)
        {
            throw new TimeoutException($"It did not end:\n{Error}\n{Out}", e);
        }

        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited) _process.Kill();
        await _process.WaitForExitAsync(CancellationToken.None);
        _process.Dispose();
    }

    private static void Add(List<string> lines, string? line)
    {
        if (line is null) return;
        lock (lines) lines.Add(line);
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
