using System.Globalization;
using System.Numerics;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Text read as a scalar of the spec: a JSON value, or what was wrong.</summary>
internal readonly record struct ScalarReading(JsonNode? Value, string? Found = null, string? Suggestion = null, string? Advice = null)
{
    /// <param name="shape">What is expected.</param>
    /// <param name="text">The text, without quotes.</param>
    /// <param name="quoted">Whether the author put it in quotes and so declared it to be text.</param>
    public static ScalarReading Read(ScalarShape shape, string text, bool quoted)
    {
        if (shape.Type.IsEnum)
        {
            return shape.Words.Contains(text)
                ? new(JsonValue.Create(text))
                : new(null, Quote(text), Specs.Suggestion.Nearest(text, shape.Words));
        }

        if (shape.Type == typeof(string))
            return text.Length == 0 ? new(null, "empty") : new(JsonValue.Create(text));
        if (quoted)
            return new(null, $"the text \"{Shorten(text)}\"", Advice: "Remove the quotes.");
        if (shape.Type == typeof(bool))
            return text is "true" or "false" ? new(JsonValue.Create(text == "true")) : new(null, Quote(text), Truth(text));
        return shape.Type == typeof(int) ? Whole(shape, text) : Real(shape, text);
    }

    /// <summary>The finding for a value that could not be read.</summary>
    public SpecFinding Finding(string path, SpecShape shape, string? words = null) =>
        new(path, $"{words ?? path} must be {shape.Expected}, but is {Found}."
            + (Suggestion is null ? "" : $" Did you mean '{Suggestion}'?") + (Advice is null ? "" : " " + Advice))
        {
            Found = Found?.Trim('\''), Expected = shape.Expected, Suggestion = Suggestion,
        };

    public static string Quote(string text) => $"'{Shorten(text)}'";

    private static string Shorten(string text)
    {
        var line = text.ReplaceLineEndings(" ");
        return line.Length <= 60 ? line : line[..57] + "...";
    }

    private static string? Truth(string text) => text.ToLowerInvariant() switch
    {
        "yes" or "on" or "true" or "1" => "true",
        "no" or "off" or "false" or "0" => "false",
        _ => null,
    };

    private static ScalarReading Whole(ScalarShape shape, string text)
    {
        const NumberStyles Style = NumberStyles.AllowLeadingSign;
        if (text.Length > 400 || !BigInteger.TryParse(text, Style, CultureInfo.InvariantCulture, out var whole))
            return new(null, IsNumber(text) ? text : Quote(text));
        if (whole < int.MinValue || whole > int.MaxValue || !shape.InRange((double)whole)) return new(null, Shorten(text));
        return new(JsonValue.Create((int)whole));
    }

    private static ScalarReading Real(ScalarShape shape, string text)
    {
        if (!double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var real)) return new(null, Quote(text));
        if (!double.IsFinite(real) || !shape.InRange(real)) return new(null, Shorten(text));
        return new(JsonValue.Create(real == 0 ? 0.0 : real)); // one zero: -0 would be another hash
    }

    private static bool IsNumber(string text) =>
        text.Length <= 60 && double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out _);
}
