using AdjointDpm.Client.Connection;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Rendering;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Everything outside that commands touch.</summary>
internal sealed record ClientContext
{
    public required Terminal Terminal { get; init; }

    public required Func<ClusterTarget, CancellationToken, Task<IClusterConnection>> Connect { get; init; }

    public required Func<LocalClusterOptions, ILocalCluster> StartLocal { get; init; }

    public required TimeProvider Time { get; init; }

    public required Interruptions Interruptions { get; init; }

    /// <summary>Where this program lies; silos are looked for from there.</summary>
    public required string ProgramFolder { get; init; }

    public required Func<string, string?> Variable { get; init; }

    public required string CurrentDirectory { get; init; }

    /// <summary>The real thing.</summary>
    public static ClientContext Real(Terminal terminal, Interruptions interruptions) => new()
    {
        Terminal = terminal,
        Interruptions = interruptions,
        ProgramFolder = AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar),
        Connect = OrleansConnection.OpenAsync,
        StartLocal = options => new SiloProcesses(options),
        Time = TimeProvider.System,
        Variable = Environment.GetEnvironmentVariable,
        CurrentDirectory = Environment.CurrentDirectory,
    };

    /// <summary>A path as the user would write it: relative when below the current folder. An address in a bucket stays as it is.</summary>
    public string Short(string path)
    {
        if (ArtifactList.IsAddress(path)) return path;
        var relative = Path.GetRelativePath(CurrentDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }
}
