using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Client.LocalCluster;

/// <summary>One run of one silo's process, with its output in a log file.</summary>
internal sealed class SiloProcess : IDisposable
{
    private const int Sigterm = 15;

    /// <summary>How long the last lines of a dead silo may take to arrive.</summary>
    private static readonly TimeSpan Drain = TimeSpan.FromMilliseconds(500);

    /// <summary>A session of its own, so that neither the terminal's Ctrl-C nor our end reaches the silo, and a log that needs no reader.</summary>
    private static readonly string[] Detached =
        ["/bin/sh", "-c", "log=$1; shift; command -v setsid >/dev/null && set -- setsid \"$@\"; exec \"$@\" >>\"$log\" 2>&1 </dev/null", "sh"];

    private readonly Process _process;
    private readonly StreamWriter _log;
    private readonly TaskCompletionSource _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _outputEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _errorEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<SiloReady> _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private SiloProcess(string name, string logFile, ProcessStartInfo start)
    {
        (Name, LogFile) = (name, logFile);
        _log = new StreamWriter(new FileStream(logFile, FileMode.Append, FileAccess.Write, FileShare.ReadWrite)) { AutoFlush = true };
        _process = new Process { StartInfo = start, EnableRaisingEvents = true };
        _process.Exited += (_, _) => _exited.TrySetResult();
        _process.OutputDataReceived += (_, line) =>
        {
            if (line.Data is null) _outputEnded.TrySetResult();
            if (SiloReady.TryParse(line.Data, out var ready)) _ready.TrySetResult(ready);
            Log(line.Data);
        };
        _process.ErrorDataReceived += (_, line) =>
        {
            if (line.Data is null) _errorEnded.TrySetResult();
            Log(line.Data);
        };
    }

    public string Name { get; }

    public string LogFile { get; }

    public int Id => _process.Id;

    public bool Running => !_process.HasExited;

    /// <summary>Done when the silo has joined its cluster.</summary>
    public Task<SiloReady> Ready => _ready.Task;

    public static SiloProcess Start(LocalClusterOptions options, string name)
    {
        var logs = Directory.CreateDirectory(Path.Combine(options.DataFolder, "logs")).FullName;
        var logFile = Path.Combine(logs, name + ".log");
        // Port 0: the silo picks a free one and tells it in its ready line and in the membership file.
        List<string> command = [options.Command.Program, .. options.Command.Arguments, $"--Silo:Name={name}", "--Silo:SiloPort=0", "--Silo:GatewayPort=0", "--Silo:HttpPort=0", "--Silo:TensorPort=0", $"--Silo:DataFolder={options.DataFolder}"];
        if (!options.Keep) command.Add(string.Create(CultureInfo.InvariantCulture, $"--Silo:ParentProcessId={Environment.ProcessId}"));
        if (options.Finish) command.Add("--Silo:FinishWithoutParent=true");
        // What outlives us needs a log that nobody reads for it, and a session that no terminal closes.
        var detached = (options.Keep || options.Finish) && !OperatingSystem.IsWindows();
        var said = string.Join(' ', command);
        if (detached) command = [.. Detached, logFile, .. command];

        var start = new ProcessStartInfo(command[0], command.Skip(1))
        {
            RedirectStandardOutput = !detached, RedirectStandardError = !detached, RedirectStandardInput = true, UseShellExecute = false,
            WorkingDirectory = options.DataFolder,
        };
        // Read by the math libraries before any of our code runs there.
        foreach (var variable in new[] { "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS" })
            start.Environment[variable] = options.Threads.ToString(CultureInfo.InvariantCulture);
        if (options.Repeatable) start.Environment[LocalClusterOptions.RepeatableVariable] = "1";

        var silo = new SiloProcess(name, logFile, start);
        try
        {
            silo.Log($"--- {said}");
            silo._process.Start();
        }
        catch (Win32Exception e)
        {
            silo.Dispose();
            throw new CommandFailure(ExitCodes.Failed, $"'{start.FileName}' cannot be started: {e.Message}.", "Install the .NET 10 runtime, or put it on the PATH.", e);
        }

        // Nobody types into a silo.
        silo._process.StandardInput.Close();
        if (detached)
        {
            _ = silo.ReadReadyFromLogAsync();
            return silo;
        }

        silo._process.BeginOutputReadLine();
        silo._process.BeginErrorReadLine();
        return silo;
    }

    /// <summary>Waits for the end; the exit code in words.</summary>
    public async Task<string> EndedAsync(CancellationToken cancellationToken)
    {
        // Not WaitForExitAsync: it waits for the end of the output too, which a grandchild can keep open for ever.
        await _exited.Task.WaitAsync(cancellationToken);
        await LastWordsAsync();
        var code = _process.ExitCode;
        return code > 128 && !OperatingSystem.IsWindows() ? $"was killed by signal {code - 128}{SignalName(code - 128)}" : $"ended with exit code {code}";
    }

    /// <summary>Asks it to stop, waits, and kills it when it does not.</summary>
    public async Task<bool> StopAsync(TimeSpan patience)
    {
        if (!Running) return true;
        if (OperatingSystem.IsWindows() || SendSignal(_process.Id, Sigterm) != 0) Kill();
        var stopped = await Task.WhenAny(_exited.Task, Task.Delay(patience, TimeProvider.System)) == _exited.Task;
        if (!stopped) Kill();
        await LastWordsAsync();
        return stopped;
    }

    public void Kill()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (Exception e) when (e is InvalidOperationException or Win32Exception or NotSupportedException)
        {
            // it had ended already
        }
    }

    /// <summary>The last lines of its log, for a message.</summary>
    public string LastLines(int count)
    {
        try
        {
            using var reader = new StreamReader(new FileStream(LogFile, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
            return string.Join('\n', reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).TakeLast(count).Select(line => "  " + line));
        }
        catch (IOException)
        {
            return "";
        }
    }

    public void Dispose()
    {
        _process.Dispose();
        lock (_log) _log.Dispose();
    }

    private Task LastWordsAsync() => _process.StartInfo.RedirectStandardError
        ? Task.WhenAny(Task.WhenAll(_outputEnded.Task, _errorEnded.Task), Task.Delay(Drain, TimeProvider.System))
        : Task.CompletedTask;

    private async Task ReadReadyFromLogAsync()
    {
        using var reader = new StreamReader(new FileStream(LogFile, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        SiloReady? newest = null;
        while (Running)
        {
            while (await reader.ReadLineAsync() is { } line)
            {
                if (SiloReady.TryParse(line, out var ready)) newest = ready;
            }

            // The log is older than this run: the line must be of this process.
            if (newest?.ProcessId == _process.Id && _ready.TrySetResult(newest)) return;
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }
    }

    private static string SignalName(int signal) => signal switch
    {
        6 => " (SIGABRT: a native library gave up)",
        7 => " (SIGBUS: a file that it runs from was changed)",
        9 => " (SIGKILL: by hand, or for lack of memory)",
        11 => " (SIGSEGV: a native library failed)",
        15 => " (SIGTERM)",
        _ => "",
    };

    private void Log(string? line)
    {
        if (line is null) return;
        lock (_log)
        {
            if (_log.BaseStream.CanWrite) _log.WriteLine(line);
        }
    }

    // .NET can kill a process but not ask it to stop.
    [DllImport("libc", EntryPoint = "kill", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    private static extern int SendSignal(int processId, int signal);
}
