using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Bench;

/// <summary>An experiment that the client ran on this machine, as it lies in its folder.</summary>
/// <param name="Folder">Folder of its results.</param>
/// <param name="Report">Its <c>report.json</c>.</param>
internal sealed record ClientRun(string Folder, JsonNode Report)
{
    public IReadOnlyList<TrialRun> Trials => [.. Report["trials"]!.AsArray().Select(trial => new TrialRun(this, trial!))];

    /// <summary>The only trial, or the first.</summary>
    public TrialRun Trial => Trials[0];

    /// <summary>Runs a file of examples/, on two silos; what ran in the folder before is not run again.</summary>
    /// <param name="file">Path of the file.</param>
    /// <param name="output">Folder of runs.</param>
    /// <param name="sets">Values to set, such as <c>training.steps=3</c>.</param>
    public static ClientRun Of(string file, string output, params string[] sets)
    {
        var start = new ProcessStartInfo("dotnet", ["run", "--project", "src/Client", "-c", "Release", "--no-build", "--", "run", file, "--silos", "2", "-o", output, "--json", .. sets.SelectMany(set => new[] { "--set", set })]) { RedirectStandardOutput = true };
        using var client = Process.Start(start)!;
        var text = client.StandardOutput.ReadToEnd();
        client.WaitForExit();
        if (client.ExitCode != 0)
            throw new InvalidOperationException($"{file} ended with {client.ExitCode}: {text}");
        var folder = (string)JsonNode.Parse(text)!["artifactFolder"]!;
        return new(folder, JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "report.json")))!);
    }
}

/// <summary>A trial of it.</summary>
internal sealed record TrialRun(ClientRun Run, JsonNode Json)
{
    public int Index => (int)Json["index"]!;

    /// <summary>A metric; NaN where it was not measured.</summary>
    public double this[string metric] => Json["metrics"]![metric] is { } value ? (double)value : double.NaN;

    public string Parameter(string path) => (string)Json["parameters"]![path]!;

    /// <summary>What it cost, by name; NaN where it was not counted.</summary>
    public double Cost(string name) => Json["cost"]![name] is { } value ? (double)value : double.NaN;

    public AttackOutcome Attack() => AttackOutcome.Of(Json["metrics"]!.AsObject().ToDictionary(pair => pair.Key, pair => (double)pair.Value!), Cost("trainingSeconds")) ?? throw new InvalidOperationException("The trial attacked nothing.");

    public string File(string name) => Path.Combine(Run.Folder, string.Create(CultureInfo.InvariantCulture, $"trial-{Index}"), name);
}
