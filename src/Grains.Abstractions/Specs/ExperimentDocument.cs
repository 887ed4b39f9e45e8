using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Specs;

/// <summary>An experiment file that was read and holds in every respect.</summary>
public sealed partial record ExperimentDocument
{
    /// <summary>The only format version that this release reads.</summary>
    public const string ApiVersion = "adjointdpm.dev/v1";

    /// <summary>The only kind of document.</summary>
    public const string Kind = "Experiment";

    private const int MostBytes = 1 << 20;

    private ExperimentDocument()
    {
    }

    /// <summary>metadata.name: lower-case letters, digits and dashes.</summary>
    public required string Name { get; init; }

    /// <summary>metadata.labels, for people.</summary>
    public required IReadOnlyDictionary<string, string> Labels { get; init; }

    /// <summary>The spec with all defaults, paths made absolute.</summary>
    public required ExperimentSpec Spec { get; init; }

    /// <summary>Canonical JSON of <see cref="Spec"/>.</summary>
    public required string SpecJson { get; init; }

    /// <summary>SHA-256 of <see cref="SpecJson"/>, lower-case hex.</summary>
    public required string SpecSha256 { get; init; }

    /// <summary>Key of the experiment: the name and the start of the hash, so that the same file always means the same experiment.</summary>
    public string Id => IdOf(Name, SpecSha256);

    /// <summary>Key of the experiment with this name and spec.</summary>
    public static string IdOf(string name, string specSha256) => $"{name}-{specSha256[..8]}";

    /// <summary>Reads a file. Never throws for anything that the file or its absence can cause.</summary>
    /// <param name="path">The file.</param>
    /// <param name="pathsOfSilos">Whether paths in it are those of silos on other machines: then they must be absolute, and silos look for them.</param>
    public static ExperimentDocumentResult Load(string path, bool pathsOfSilos = false)
    {
        try
        {
            var bytes = new FileInfo(path).Length;
            if (bytes > MostBytes) return Unreadable(path, $"'{path}' has {bytes.ToString(CultureInfo.InvariantCulture)} bytes. An experiment file has at most {MostBytes}: is this the right file?");
            return Parse(File.ReadAllText(path, new UTF8Encoding(false, throwOnInvalidBytes: true)), path, pathsOfSilos);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return Unreadable(path, Directory.Exists(path) ? $"'{path}' is a folder. Name the experiment file in it." : $"There is no file '{path}'.");
        }
        catch (DecoderFallbackException)
        {
            return Unreadable(path, $"'{path}' is not UTF-8 text.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return Unreadable(path, $"'{path}' cannot be read: {e.Message}");
        }
    }

    /// <summary>Reads a text. Relative paths in it start from the folder of <paramref name="fileName"/>.</summary>
    /// <param name="text">YAML.</param>
    /// <param name="fileName">Name for messages; the file need not be there.</param>
    /// <param name="pathsOfSilos">Whether paths in it are those of silos on other machines.</param>
    public static ExperimentDocumentResult Parse(string text, string fileName, bool pathsOfSilos = false)
    {
        var folder = Path.GetDirectoryName(Path.GetFullPath(fileName)) ?? Path.DirectorySeparatorChar.ToString();
        var binder = new YamlBinder(fileName, folder, pathsOfSilos);
        if (YamlTree.Load(text, (line, column, length, message) => binder.Report(line, column, length, "", message)) is not { } tree)
            return new ExperimentDocumentResult(null, binder.Problems);

        var envelope = binder.Bind(SpecShape.Of<ExperimentEnvelope>(), tree).AsObject();
        if (tree is not YamlMap) return new ExperimentDocumentResult(null, binder.Problems);
        var node = envelope["spec"]!.AsObject();
        foreach (var finding in Envelope(envelope)) binder.Report(finding, "");
        if (PromptsOfFile.Expand(node) is { } unread) binder.Report(unread, "spec.");
        var bound = SpecRecords.Read<ExperimentSpec>(node);
        foreach (var finding in SpecRules.Check(bound)) binder.Report(finding, "spec.");
        foreach (var finding in SearchRules.Check(bound, node, pathsOfSilos ? null : folder)) binder.Report(finding, "spec.");
        foreach (var finding in SecretRules.Check(node)) binder.Report(finding, "spec.");

        var problems = binder.Problems.OrderBy(problem => problem.Line).ThenBy(problem => problem.Column).ToList();
        if (problems.Any(problem => problem.Severity == SpecSeverity.Error))
            return new ExperimentDocumentResult(null, [.. problems.Where(problem => problem.Severity == SpecSeverity.Error)]);

        var spec = SpecRecords.Read<ExperimentSpec>(node);
        var json = ExperimentSpecJson.Serialize(spec);
        var labels = envelope["metadata"]!["labels"] as JsonObject ?? [];
        return new ExperimentDocumentResult(
            new ExperimentDocument
            {
                Name = envelope["metadata"]!["name"]!.GetValue<string>(),
                Labels = labels.ToDictionary(label => label.Key, label => label.Value!.GetValue<string>()),
                Spec = spec,
                SpecJson = json,
                SpecSha256 = ExperimentSpecJson.Sha256(json),
            },
            problems);
    }

    private static ExperimentDocumentResult Unreadable(string path, string message) => new(null, [new SpecProblem(path, 1, 1, "", message)]);

    private static IEnumerable<SpecFinding> Envelope(JsonObject envelope)
    {
        foreach (var (key, expected) in new[] { ("apiVersion", ApiVersion), ("kind", Kind) })
        {
            var found = envelope[key]!.GetValue<string>();
            if (found != expected) yield return new(key, $"{key} must be {expected}, but is '{found}'.") { Found = found, Expected = expected, Suggestion = expected };
        }

        var labels = envelope["metadata"]!["labels"] as JsonObject ?? [];
        if (labels.Count > ExperimentSubmission.MostLabels)
            yield return new("metadata.labels", $"metadata.labels has {labels.Count} labels; at most {ExperimentSubmission.MostLabels} are kept.");
        foreach (var (key, value) in labels)
            if (key.Length is 0 or > ExperimentSubmission.MostOfLabel || key.Contains('=', StringComparison.Ordinal) || value?.GetValue<string>().Length > ExperimentSubmission.MostOfLabel)
                yield return new(SpecPath.Entry("metadata.labels", key), $"A label's name has no '=' and, as its value, at most {ExperimentSubmission.MostOfLabel} characters.");

        var name = envelope["metadata"]!["name"]!.GetValue<string>();
        if (DnsLabel().IsMatch(name)) yield break;
        var near = string.Join('-', NotInLabel().Replace(name.ToLowerInvariant(), "-").Split('-', StringSplitOptions.RemoveEmptyEntries));
        near = near[..Math.Min(near.Length, 63)].Trim('-');
        yield return new("metadata.name", $"metadata.name must be 1 to 63 lower-case letters, digits and dashes, and begin and end with a letter or digit, but is {ScalarReading.Quote(name)}."
            + (near.Length > 0 ? $" Did you mean '{near}'?" : ""))
        {
            Found = name, Expected = "1 to 63 lower-case letters, digits and dashes", Suggestion = near.Length > 0 ? near : null,
        };
    }

    [GeneratedRegex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\z", RegexOptions.CultureInvariant)]
    private static partial Regex DnsLabel();

    [GeneratedRegex("[^a-z0-9]+", RegexOptions.CultureInvariant)]
    private static partial Regex NotInLabel();
}

/// <summary>What came of reading an experiment file.</summary>
/// <param name="Document">The experiment; null when there were errors.</param>
/// <param name="Problems">All errors; when there were none, the notes. In the order of the file.</param>
public sealed record ExperimentDocumentResult(ExperimentDocument? Document, IReadOnlyList<SpecProblem> Problems);

/// <summary>The document around the spec.</summary>
internal sealed record ExperimentEnvelope
{
    /// <summary>Version of the format: adjointdpm.dev/v1.</summary>
    [Required]
    public required string ApiVersion { get; init; }

    /// <summary>Kind of document: Experiment.</summary>
    [Required]
    public required string Kind { get; init; }

    /// <summary>Name and labels.</summary>
    [Required]
    public required ExperimentMetadata Metadata { get; init; }

    /// <summary>The experiment.</summary>
    [Required]
    public required ExperimentSpec Spec { get; init; }
}

/// <summary>Name and labels.</summary>
internal sealed record ExperimentMetadata
{
    /// <summary>Name of the experiment: 1 to 63 lower-case letters, digits and dashes.</summary>
    [Required]
    public required string Name { get; init; }

    /// <summary>Labels, for people.</summary>
    public IReadOnlyDictionary<string, string>? Labels { get; init; }
}
