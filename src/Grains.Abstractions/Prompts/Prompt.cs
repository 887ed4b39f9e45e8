namespace AdjointDpm.Grains.Prompts;

/// <summary>A text to draw, and what its file says of how; null where it says nothing.</summary>
/// <param name="Text">The prompt.</param>
public sealed record Prompt(string Text)
{
    /// <summary>Text to guide away from.</summary>
    public string? Negative { get; init; }

    /// <summary>Seed of the noise.</summary>
    public long? Seed { get; init; }

    /// <summary>Width in pixels.</summary>
    public int? Width { get; init; }

    /// <summary>Height in pixels.</summary>
    public int? Height { get; init; }

    /// <summary>Steps of the sampler.</summary>
    public int? Steps { get; init; }

    /// <summary>Weight of classifier-free guidance.</summary>
    public double? Guidance { get; init; }

    /// <summary>Name of a sampler, of this program, of sd-scripts or of a web interface.</summary>
    public string? Sampler { get; init; }

    /// <summary>The class that a classifier should see.</summary>
    public int? Class { get; init; }

    /// <summary>Names, as files have them, of what is said beyond text and class.</summary>
    internal IEnumerable<string> Own() => new (string Name, bool Said)[] { ("negative", Negative is not null), ("seed", Seed is not null), ("width", Width is not null), ("height", Height is not null), ("steps", Steps is not null), ("guidance", Guidance is not null), ("sampler", Sampler is not null) }.Where(o => o.Said).Select(o => o.Name);
}
