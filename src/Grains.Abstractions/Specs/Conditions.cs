using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace AdjointDpm.Grains.Specs;

/// <summary>Parameters that are searched only where others have certain values.</summary>
internal static class Conditions
{
    /// <summary>The values that a condition allows: the text itself, or the items of a JSON list when it is none of the parent's own values.</summary>
    public static IReadOnlyList<string> Allowed(string text, IReadOnlyList<string> parent)
    {
        if (parent.Contains(text) || !text.StartsWith('['))
            return [text];
        try
        {
            return [.. JsonSerializer.Deserialize<List<JsonElement>>(text)!.Select(item => item.ValueKind == JsonValueKind.String ? item.GetString()! : item.GetRawText())];
        }
        catch (JsonException)
        {
            return [text];
        }
    }

    /// <summary>Whether a parameter is searched in a trial whose earlier parameters have these values; those that are not searched there are missing.</summary>
    public static bool Hold(ParameterSpec parameter, IReadOnlyDictionary<string, ParameterSpec> parameters, IReadOnlyDictionary<string, string> values) =>
        parameter.When is not { } when || when.All(condition => values.TryGetValue(condition.Key, out var value) && Allowed(condition.Value, parameters[condition.Key].Values!).Contains(value));

    /// <summary>Points of a grid; a parameter that is not searched in a point does not multiply it.</summary>
    public static BigInteger Points(IReadOnlyDictionary<string, ParameterSpec> parameters)
    {
        var parents = parameters.Values.SelectMany(parameter => parameter.When?.Keys ?? []).ToHashSet();
        return From(0, []);

        BigInteger From(int index, Dictionary<string, string> values)
        {
            var factor = BigInteger.One;
            foreach (var (path, parameter) in parameters.Skip(index))
            {
                index++;
                if (!Hold(parameter, parameters, values))
                    continue;
                if (!parents.Contains(path))
                {
                    factor *= Math.Max(1, parameter.Values?.Count ?? 1);
                    continue;
                }
                var sum = BigInteger.Zero;
                foreach (var value in parameter.Values!)
                    sum += From(index, new(values) { [path] = value });
                return factor * sum;
            }
            return factor;
        }
    }

    /// <summary>A value in the form that canonical JSON has, so that 1e-4 and 0.0001 are the same condition; null when it is none of the parent's.</summary>
    public static string? Canonical(string text, SpecShape shape, string path, IReadOnlyList<string> parent)
    {
        var allowed = Allowed(text, parent).Select(item => SpecPath.Read(shape, path, item, out _) is { } node
            ? node is System.Text.Json.Nodes.JsonValue scalar && scalar.TryGetValue<string>(out var word) ? word : node.ToJsonString(ExperimentSpecJson.Options)
            : item).ToList();
        if (allowed.Count == 0 || allowed.Any(item => !parent.Contains(item)))
            return null;
        return allowed.Count == 1 ? allowed[0] : string.Create(CultureInfo.InvariantCulture, $"{JsonSerializer.Serialize(allowed, ExperimentSpecJson.Options)}");
    }
}
