using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Reads the experiment that a command names.</summary>
internal static class SpecFile
{
    /// <summary>Prints the notes; throws when there are errors.</summary>
    public static (string Id, ExperimentSubmission Submission, ExperimentSpec Spec) Read(string file, IReadOnlyList<string> sets, ClientContext context)
    {
        var result = ExperimentDocument.Load(file);
        if (result.Document is not { } document) throw new SpecFailure(result.Problems, Lines(file));
        ProblemView.Show(context.Terminal.Error, result.Problems, Lines(file));
        if (sets.Count == 0) return (document.Id, new(document.SpecJson, document.SpecSha256, document.Name) { Labels = document.Labels }, document.Spec);

        var json = sets.Aggregate(document.SpecJson, Apply);
        try
        {
            var spec = ExperimentSpecJson.Deserialize(json);
            var sha = ExperimentSpecJson.Sha256(json);
            return (ExperimentDocument.IdOf(document.Name, sha), new(json, sha, document.Name) { Labels = document.Labels }, spec);
        }
        catch (SpecException e)
        {
            throw new CommandFailure(ExitCodes.Invalid, $"--set: {e.Message}", inner: e);
        }
    }

    /// <summary>The experiment with its own values, without the search over others.</summary>
    public static ExperimentSpec WithoutSearch(ExperimentSpec spec) => spec with { Parameters = new Dictionary<string, ParameterSpec>(), Algorithm = new AlgorithmSpec(), MaxTrials = null, EarlyStopping = null, Budget = null, MaxConcurrentTrials = 1 };

    private static string Apply(string json, string set)
    {
        var (path, value) = Setting(set);
        try
        {
            return SpecOverrides.Set(json, path, value);
        }
        catch (SpecException e)
        {
            throw new CommandFailure(ExitCodes.Invalid, $"--set: {e.Message}", inner: e);
        }
    }

    /// <summary>path=value.</summary>
    public static KeyValuePair<string, string> Setting(string set)
    {
        // Paths of conditions and parameters have no '=' in them.
        var equals = set.IndexOf('=');
        if (equals <= 0) throw new CommandFailure(ExitCodes.Invalid, $"--set: '{set}' is not path=value.", "Write it like --set optimizer.learningRate=3e-4.");
        return new(set[..equals].Trim(), set[(equals + 1)..].Trim());
    }

    private static string[] Lines(string file)
    {
        try
        {
            return new FileInfo(file) is { Exists: true, Length: < 1 << 20 } ? File.ReadAllLines(file) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return []; // the problem itself says that it cannot be read
        }
    }
}

/// <summary>A spec file does not hold.</summary>
internal sealed class SpecFailure(IReadOnlyList<SpecProblem> problems, IReadOnlyList<string> lines) : Exception(string.Join('\n', problems))
{
    public IReadOnlyList<SpecProblem> Problems { get; } = problems;

    public IReadOnlyList<string> Lines { get; } = lines;
}
