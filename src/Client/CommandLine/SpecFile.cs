using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Reads the experiment that a command names.</summary>
internal static class SpecFile
{
    /// <summary>Prints the notes; throws when there are errors.</summary>
    public static (string Id, ExperimentSubmission Submission, ExperimentSpec Spec) Read(string file, IReadOnlyList<string> sets, ClientContext context, bool pathsOfSilos = false)
    {
        var result = ExperimentDocument.Load(file, pathsOfSilos);
        if (result.Document is not { } document) throw new SpecFailure(result.Problems, Lines(file));
        ProblemView.Show(context.Terminal.Error, result.Problems, Lines(file));
        if (sets.Count == 0) return (document.Id, new(document.SpecJson, document.SpecSha256, document.Name) { PathsOfSilos = pathsOfSilos, Labels = document.Labels }, document.Spec);

        var json = sets.Aggregate(document.SpecJson, Apply);
        try
        {
            var spec = ExperimentSpecJson.Deserialize(json);
            var sha = ExperimentSpecJson.Sha256(json);
            return (ExperimentDocument.IdOf(document.Name, sha), new(json, sha, document.Name) { PathsOfSilos = pathsOfSilos, Labels = document.Labels }, spec);
        }
        catch (SpecException e)
        {
            throw new CommandFailure(ExitCodes.Invalid, $"--set: {e.Message}", inner: e);
        }
    }

    /// <summary>The same with a method in place of <c>gradient.method: auto</c>: what fits into resources.memory, as the silo's program finds it. Says what was chosen.</summary>
    public static async Task<(string Id, ExperimentSubmission Submission, ExperimentSpec Spec)> ReadResolvedAsync(string file, IReadOnlyList<string> sets, ClientContext context, bool pathsOfSilos, CancellationToken cancellationToken)
    {
        var read = Read(file, sets, context, pathsOfSilos);
        if (read.Spec.Gradient.Method != GradientName.Auto)
            return read;
        var answer = await ToolRun.AskAsync(context, new PlanRequest(ExperimentSpecJson.Serialize(WithoutSearch(read.Spec)), ByteSize.Read(read.Spec.Resources.Memory!)), cancellationToken);
        var settings = answer.Memory?.Methods.FirstOrDefault(m => m.IsChosen)?.Settings ?? throw new CommandFailure(ExitCodes.Failed, "The silo's program named no method for gradient.method auto.", "Use the silo that came with this adpm, or name a method.");
        var json = settings.Split('\n').Select(line => line.Split(": ")).Aggregate(read.Submission.SpecJson, (spec, setting) => SpecOverrides.Set(spec, setting[0], setting[1]));
        context.Terminal.Note(Spectre.Console.Markup.Escape($"gradient.method auto, in {read.Spec.Resources.Memory}: {settings.Replace("\n", ", ", StringComparison.Ordinal)}"));
        var sha = ExperimentSpecJson.Sha256(json);
        return (ExperimentDocument.IdOf(read.Submission.Name, sha), read.Submission with { SpecJson = json, SpecSha256 = sha }, ExperimentSpecJson.Deserialize(json));
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
