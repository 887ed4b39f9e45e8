namespace AdjointDpm.Grains.Specs;

/// <summary>How bad a <see cref="SpecProblem"/> is.</summary>
public enum SpecSeverity
{
    /// <summary>The spec cannot be run.</summary>
    Error,

    /// <summary>The spec runs, but not quite as its author may think.</summary>
    Note,
}

/// <summary>One thing that is wrong with a spec, and where.</summary>
/// <param name="File">File as the user named it; empty when the spec did not come from a file.</param>
/// <param name="Line">Line from 1; 0 when the spec did not come from a file.</param>
/// <param name="Column">Column from 1; 0 when the spec did not come from a file.</param>
/// <param name="Path">Place in the document, such as <c>spec.optimizer.learningRate</c>.</param>
/// <param name="Message">What was wrong, the value, what to do: one or two sentences.</param>
public sealed record SpecProblem(string File, int Line, int Column, string Path, string Message)
{
    /// <summary>Characters concerned on that line, at least 1.</summary>
    public int Length { get; init; } = 1;

    /// <summary>Error or note. Default: error.</summary>
    public SpecSeverity Severity { get; init; } = SpecSeverity.Error;

    /// <summary>What was there, in words.</summary>
    public string? Found { get; init; }

    /// <summary>What could have been there, in words.</summary>
    public string? Expected { get; init; }

    /// <summary>The nearest thing that would have been right.</summary>
    public string? Suggestion { get; init; }

    /// <summary><c>file:line:column: message</c>, the form that editors make clickable.</summary>
    public override string ToString() =>
        (File.Length == 0 ? "" : $"{File}:{Line}:{Column}: ") + (Severity == SpecSeverity.Note ? "note: " : "") + Message;
}

/// <summary>A spec that came as JSON, or an override of it, does not hold. Files never throw this: see <see cref="ExperimentDocument"/>.</summary>
public sealed class SpecException : Exception
{
    internal SpecException(IReadOnlyList<SpecProblem> problems)
        : base(string.Join(' ', problems.Select(problem => problem.Message))) => Problems = problems;

    /// <summary>Everything that was wrong.</summary>
    public IReadOnlyList<SpecProblem> Problems { get; }
}

/// <summary>A problem before its place in a file is known.</summary>
internal sealed record SpecFinding(string Path, string Message)
{
    public bool AtKey { get; init; }

    /// <summary>Another place that it speaks of.</summary>
    public string? About { get; init; }

    public SpecSeverity Severity { get; init; } = SpecSeverity.Error;

    public string? Found { get; init; }

    public string? Expected { get; init; }

    public string? Suggestion { get; init; }

    public SpecProblem At(string file, int line, int column, int length, string pathPrefix = "") =>
        new(file, line, column, pathPrefix + Path, Message)
        {
            Length = Math.Max(1, length), Severity = Severity, Found = Found, Expected = Expected, Suggestion = Suggestion,
        };

    public SpecProblem Nowhere() => At("", 0, 0, 1);
}
