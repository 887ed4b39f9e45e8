using System.Text.Json;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Sets single values in a spec: how a search makes the spec of a trial.</summary>
public static class SpecOverrides
{
    /// <summary>The canonical JSON of <paramref name="specJson"/> with one value set.</summary>
    /// <param name="specJson">Canonical JSON.</param>
    /// <param name="path">Place, such as <c>optimizer.learningRate</c> or <c>losses[0].weight</c>.</param>
    /// <param name="value">The value as text in the form that place takes; a list as a JSON array.</param>
    /// <exception cref="SpecException">There is no such place, a search may not vary it, or the value does not bind or is out of range.</exception>
    public static string Apply(string specJson, string path, string value) => Put(specJson, path, value, searched: true);

    /// <summary>As <see cref="Apply(string, string, string)"/> for any place, those that steer the search included: for people, not for searches.</summary>
    /// <exception cref="SpecException">There is no such place, or the value does not bind or is out of range.</exception>
    public static string Set(string specJson, string path, string value) => Put(specJson, path, value, searched: false);

    /// <summary>The canonical JSON of one trial: all of <paramref name="values"/> set and the search itself taken out, then checked as a whole.</summary>
    /// <exception cref="SpecException">As for the single form, or the values together break a rule.</exception>
    public static string Apply(string specJson, IEnumerable<KeyValuePair<string, string>> values)
    {
        var json = values.Aggregate(specJson, (spec, value) => Apply(spec, value.Key, value.Value));
        return ExperimentSpecJson.Serialize(ExperimentSpecJson.Deserialize(json) with
        {
            Parameters = new Dictionary<string, ParameterSpec>(), Algorithm = new(), MaxTrials = null, EarlyStopping = null, Budget = null,
        });
    }

    private static string Put(string specJson, string path, string value, bool searched)
    {
        JsonObject spec;
        try
        {
            spec = JsonNode.Parse(specJson) as JsonObject ?? throw new JsonException("The spec is not an object.");
        }
        catch (JsonException e)
        {
            throw new SpecException([new SpecFinding("", $"The spec is no JSON object: {e.Message}").Nowhere()]);
        }

        if (SpecPath.Resolve(path, spec, out var finding, searched) is not { } shape || SpecPath.Read(shape, path, value, out finding) is not { } node)
            throw new SpecException([finding!.Nowhere()]);
        SpecPath.Set(spec, path, node);
        return ExperimentSpecJson.Serialize(ExperimentSpecJson.Bind(spec));
    }
}
