using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace AdjointDpm.Bench;

/// <summary>A process that answers one line with one line: this program as a silo, or a rank of Gloo.</summary>
internal sealed class TransportProcess : IAsyncDisposable
{
    private readonly Process _process;

    private TransportProcess(Process process) => _process = process;

    /// <summary>Processor time since the process began, in milliseconds; in ticks of 10.</summary>
    public double ProcessorMilliseconds
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime.TotalMilliseconds;
        }
    }

    public static async Task<List<TransportProcess>> StartSilosAsync(int count, string folder, int parameters, int streamBytes, string? certificates = null)
    {
        var silos = Enumerable.Range(0, count).Select(i => Start(Environment.ProcessPath!, [TransportSilo.Argument, $"silo-{i}", folder, parameters.ToString(CultureInfo.InvariantCulture), streamBytes.ToString(CultureInfo.InvariantCulture), .. certificates is null ? Array.Empty<string>() : [certificates]])).ToList();
        foreach (var silo in silos)
            if (await silo._process.StandardOutput.ReadLineAsync() != "ready")
                throw new InvalidOperationException("A silo process ended before it was ready; its message is above.");
        return silos;
    }

    public static async Task<(List<TransportProcess> Ranks, string Greeting)> StartGlooAsync(int count, string place)
    {
        var python = Environment.GetEnvironmentVariable("PYTHON") ?? (File.Exists("/usr/bin/python3") ? "/usr/bin/python3" : "python3");
        List<TransportProcess> ranks;
        try
        {
            ranks = [.. Enumerable.Range(0, count).Select(rank => Start(python, [Path.Combine(Path.GetDirectoryName(Here())!, "gloo.py"), rank.ToString(CultureInfo.InvariantCulture), count.ToString(CultureInfo.InvariantCulture), place]))];
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return ([], $"skipped, there is no '{python}'. Name a Python that has PyTorch in PYTHON.");
        }
        var greetings = await Task.WhenAll(ranks.Select(async rank => await rank._process.StandardOutput.ReadLineAsync() ?? "it ended without a word"));
        if (greetings.FirstOrDefault(greeting => !greeting.StartsWith("ready: ", StringComparison.Ordinal)) is not { } missing)
            return (ranks, greetings[0]["ready: ".Length..]);
        foreach (var rank in ranks)
            await rank.DisposeAsync();
        return ([], "skipped, " + missing);
    }

    public async Task<T> AskAsync<T>(string command)
    {
        await _process.StandardInput.WriteLineAsync(command);
        await _process.StandardInput.FlushAsync();
        var answer = await _process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException($"A process ended at '{command}'; its message is above.");
        return JsonSerializer.Deserialize<T>(answer)!;
    }

    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private static TransportProcess Start(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.Environment["OMP_NUM_THREADS"] = "1";
        return new TransportProcess(Process.Start(start)!);
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
