using System.Globalization;

namespace AdjointDpm.Grains.Prompts;

/// <summary>Where in a file something stands.</summary>
internal sealed record PromptPlace(string Path, long Number, string Noun = "line")
{
    public InvalidDataException Wrong(string what) => new(Noun == "line" ? $"{Path}:{Number}: the line {what}" : $"{Path}: {Noun} {Number} {what}");
}

/// <summary>One row of a file of prompts, named field by field.</summary>
internal sealed class PromptRow(PromptPlace place)
{
    // What a column is, by any of its names; the first is what messages say.
    private static readonly string[][] Names = [["prompt", "text", "caption"], ["negative", "negative_prompt"], ["seed"], ["width"], ["height"], ["steps", "sample_steps"], ["guidance", "guidance_scale", "cfg", "cfg_scale", "scale"], ["sampler", "sample_sampler"], ["class", "label"]];

    private readonly Dictionary<string, string> _fields = [];

    public static void RequirePrompt(IEnumerable<string> names, PromptPlace place)
    {
        List<string> all = [.. names];
        if (!all.Any(n => Known(n) == "prompt"))
            throw place.Wrong($"has no prompt, text or caption, but {string.Join(", ", all.Take(8))}. Name the one with the texts 'prompt'.");
    }

    public void Add(string name, string? value)
    {
        // Of prompt and text beside it the first counts.
        if (Known(name) is { } known && !string.IsNullOrWhiteSpace(value))
            _fields.TryAdd(known, value.Trim());
    }

    public Prompt Prompt()
    {
        if (!_fields.TryGetValue("prompt", out var text))
            throw place.Wrong("has an empty prompt. Remove it, or write what to draw.");
        return new(text)
        {
            Negative = _fields.GetValueOrDefault("negative"),
            Seed = Whole("seed", 0, long.MaxValue),
            Width = (int?)Whole("width", 8, 16_384),
            Height = (int?)Whole("height", 8, 16_384),
            Steps = (int?)Whole("steps", 1, 1000),
            Guidance = Real("guidance"),
            Sampler = _fields.GetValueOrDefault("sampler"),
            Class = (int?)Whole("class", 0, int.MaxValue),
        };
    }

    private static string? Known(string name)
    {
        var plain = name.Trim().ToLowerInvariant().Replace('-', '_').Replace(' ', '_');
        return Names.FirstOrDefault(n => n.Contains(plain))?[0];
    }

    private long? Whole(string name, long least, long most) => !_fields.TryGetValue(name, out var text) ? null
        : long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) && value >= least && value <= most ? value
        : throw place.Wrong($"has a {name} of '{text}'; it is a whole number from {least}{(most == long.MaxValue ? "" : FormattableString.Invariant($" to {most}"))}.");

    private double? Real(string name) => !_fields.TryGetValue(name, out var text) ? null
        : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && double.IsFinite(value) ? value
        : throw place.Wrong($"has a {name} of '{text}'; it is a number.");
}
