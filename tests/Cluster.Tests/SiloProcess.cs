using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Cluster.Tests;

/// <summary>A silo in a process of its own.</summary>
internal sealed partial class SiloProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly List<string> _log = [];

    private SiloProcess(Process process, string name)
    {
        _process = process;
        Name = name;
    }

    public string Name { get; }

    public SiloReady Ready { get; private set; } = null!;

    public string Log
    {
        get
        {
            lock (_log)
                return string.Join('\n', _log);
        }
    }

    public static string Program { get; } = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..", "..", "Silo", Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)), "AdjointDpm.Silo.dll"));

    /// <summary>Starts a silo and returns once it has said that it is ready.</summary>
    public static Task<SiloProcess> StartAsync(string name, string dataFolder, SiloReady? sameportsAs = null, params string[] more) =>
        StartAsync(name, dataFolder, ["dotnet", Program], sameportsAs, more);

    /// <summary>The same with another build of the program.</summary>
    public static Task<SiloProcess> StartAsync(string program, string name, string dataFolder, SiloReady? sameportsAs, string[] more) =>
        StartAsync(name, dataFolder, ["dotnet", program], sameportsAs, more);

    /// <summary>Starts one by a command of its own, such as one that makes it another user's.</summary>
    public static Task<SiloProcess> StartByAsync(string[] command, string name, string dataFolder, params string[] more) => StartAsync(name, dataFolder, command, null, more);

    private static async Task<SiloProcess> StartAsync(string name, string dataFolder, string[] command, SiloReady? sameportsAs, string[] more)
    {
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (key, value) in new (string, object)[]
        {
            ("Name", name), ("DataFolder", dataFolder),
            ("SiloPort", sameportsAs?.SiloPort ?? 0), ("GatewayPort", sameportsAs?.GatewayPort ?? 0), ("HttpPort", sameportsAs?.HttpPort ?? 0), ("TensorPort", sameportsAs?.TensorPort ?? 0),
        })
            start.ArgumentList.Add(string.Create(CultureInfo.InvariantCulture, $"--Silo:{key}={value}"));
        Add(start, more);
        var silo = new SiloProcess(Process.Start(start)!, name);
        var ready = new TaskCompletionSource<SiloReady>(TaskCreationOptions.RunContinuationsAsynchronously);
        silo._process.OutputDataReceived += (_, line) =>
        {
            if (SiloReady.TryParse(line.Data, out var parsed))
                ready.TrySetResult(parsed);
        };
        silo._process.ErrorDataReceived += (_, line) =>
        {
            lock (silo._log)
                silo._log.Add(line.Data ?? "");
        };
        silo._process.EnableRaisingEvents = true;
        silo._process.Exited += (_, _) => ready.TrySetException(new InvalidOperationException($"Silo {name} ended with code {silo._process.ExitCode} before it was ready:\n{silo.Log}"));
        silo._process.BeginOutputReadLine();
        silo._process.BeginErrorReadLine();
        try
        {
            silo.Ready = await ready.Task.WaitAsync(TimeSpan.FromSeconds(90), TestContext.Current.CancellationToken);
        }
        catch (TimeoutException e)
        {
            await silo.KillAsync();
            throw new TimeoutException($"Silo {name} was not ready within 90 s:\n{silo.Log}", e);
        }
        return silo;
    }

    /// <summary>SIGKILL: nothing is said, nothing is flushed.</summary>
    public async Task KillAsync()
    {
        if (!_process.HasExited)
            _process.Kill();
        await _process.WaitForExitAsync(CancellationToken.None);
    }

    /// <summary>SIGSTOP: the process is there, its connections are open, and it answers nothing.</summary>
    public void Hang()
    {
        Assert.Equal(0, SendSignal(_process.Id, 19));
        // The kernel stops one thread after the other.
        Assert.True(SpinWait.SpinUntil(() => State == 'T', TimeSpan.FromSeconds(120)), $"Silo {Name} does not stop: its state is {State}.");
    }

    /// <summary>SIGCONT: it goes on where it stood.</summary>
    public void Resume() => Assert.Equal(0, SendSignal(_process.Id, 18));

    /// <summary>Files and sockets that it has open.</summary>
    public int Handles => Directory.GetFiles($"/proc/{_process.Id}/fd").Length;

    /// <summary>Its threads.</summary>
    public int Threads => Directory.GetDirectories($"/proc/{_process.Id}/task").Length;

    /// <summary>Memory of its own, in bytes.</summary>
    public long Memory => long.Parse(File.ReadAllText($"/proc/{_process.Id}/statm").Split(' ')[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize;

    /// <summary>As the kernel has it: T when stopped.</summary>
    private char State => File.ReadAllText($"/proc/{_process.Id}/stat").Split(") ")[1][0];

    /// <summary>SIGTERM, and the time until it was gone.</summary>
    public async Task<int> TerminateAsync()
    {
        Assert.Equal(0, SendSignal(_process.Id, 15));
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        return _process.ExitCode;
    }

    /// <summary>SIGABRT: as native code ends a process that it cannot go on in.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> AbortAsync()
    {
        var ended = EndedAsync();
        // The runtime's handler returns, and then abort() raises the signal once more.
        while (SendSignal(_process.Id, 6) == 0 && !_process.HasExited)
            await Task.WhenAny(ended, Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, TestContext.Current.CancellationToken));
        await ended;
        return _process.ExitCode;
    }

    /// <summary>Waits for an end that nobody here asked for.</summary>
    public Task EndedAsync() => _process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    /// <summary>A program start that is expected to fail: its exit code and what it said.</summary>
    public static async Task<(int Code, string Error)> FailAsync(params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Program]) { RedirectStandardError = true, RedirectStandardOutput = true };
        Add(start, arguments);
        using var process = Process.Start(start)!;
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, error);
    }

    /// <summary>What the program prints for one argument, with settings.</summary>
    public static async Task<string> AnswerAsync(string argument, string[] settings)
    {
        var start = new ProcessStartInfo("dotnet", [Program, argument]) { RedirectStandardOutput = true };
        Add(start, settings);
        using var process = Process.Start(start)!;
        return await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>Settings begin with two dashes; others are variables of the environment.</summary>
    private static void Add(ProcessStartInfo start, string[] settings)
    {
        foreach (var setting in settings)
            if (setting.StartsWith("--", StringComparison.Ordinal))
                start.ArgumentList.Add(setting);
            else
                start.Environment[setting[..setting.IndexOf('=', StringComparison.Ordinal)]] = setting[(setting.IndexOf('=', StringComparison.Ordinal) + 1)..];
    }

    public async Task<string> GetAsync(string path)
    {
        using var http = new HttpClient { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{Ready.HttpPort}")) };
        return await http.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);
    }

    /// <summary>A counter of its /metrics, over all labels.</summary>
    public async Task<double> CountAsync(string counter) => (await GetAsync("/metrics")).Split('\n')
        .Where(line => line.StartsWith(counter + "{", StringComparison.Ordinal)).Sum(line => double.Parse(line.Split("} ")[1].Split(' ')[0], CultureInfo.InvariantCulture));

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        _process.Dispose();
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
