using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Rendering;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>The program with a fake cluster behind it and its output in strings.</summary>
internal sealed class Adpm : IDisposable
{
    public Adpm()
    {
        Folder = Directory.CreateTempSubdirectory("adpm-client-").FullName;
        Interruptions = new Interruptions(text => Error.WriteLine(text), code => Exited = code);
    }

    public string Folder { get; }

    public FakeCluster Cluster { get; } = new();

    public List<FakeSilos> Silos { get; } = [];

    public List<ClusterTarget> Connected { get; } = [];

    public Dictionary<string, string> Variables { get; } = [];

    public StringWriter Out { get; } = new() { NewLine = "\n" };

    public StringWriter Error { get; } = new() { NewLine = "\n" };

    public Interruptions Interruptions { get; }

    public int? Exited { get; private set; }

    public Exception? Unreachable { get; set; }

    public FakeTimeProvider Time { get; } = new(Samples.Noon);

    /// <summary>Runs a command; words are split at spaces.</summary>
    public Task<int> RunAsync(string line) => AdpmCommandLine.InvokeAsync(line.Split(' ', StringSplitOptions.RemoveEmptyEntries), Context(), Out, Interruptions.Token);

    /// <summary>What a shell is told that completes a line.</summary>
    public Task<int> SuggestAsync(string line) => AdpmCommandLine.InvokeAsync([$"[suggest:{("adpm " + line).Length}]", "adpm " + line], Context(), Out, Interruptions.Token);

    /// <summary>All that was printed, with the temporary folder taken out.</summary>
    public string Text(string line, int exitCode) =>
        Clean($"$ adpm {line}\n[exit {exitCode}]\n--- stdout\n{Out}--- stderr\n{Error}");

    public string Clean(string text) => text.Replace(Folder, "FOLDER", StringComparison.Ordinal);

    public void Dispose()
    {
        Interruptions.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private ClientContext Context() => new()
    {
        Terminal = new Terminal(Outlet.Open(Out, terminal: false, color: false), Outlet.Open(Error, terminal: false, color: false), Live: false),
        Connect = (target, _) =>
        {
            Connected.Add(target);
            return Unreachable is null ? Task.FromResult<IClusterConnection>(Cluster) : Task.FromException<IClusterConnection>(Unreachable);
        },
        StartLocal = options =>
        {
            Silos.Add(new FakeSilos(options));
            return Silos[^1];
        },
        Time = Time,
        Interruptions = Interruptions,
        ProgramFolder = Path.Combine(Folder, "bin"),
        Variable = name => Variables.GetValueOrDefault(name),
        CurrentDirectory = Folder,
    };
}
