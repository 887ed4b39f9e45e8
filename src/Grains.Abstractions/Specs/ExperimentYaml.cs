using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace AdjointDpm.Grains.Specs;

/// <summary>Writes an experiment as the file that it could have been read from, with every default in its place.</summary>
public static partial class ExperimentYaml
{
    /// <summary>YAML that <see cref="ExperimentDocument.Parse"/> reads as an experiment of the same name, spec and id.</summary>
    /// <param name="name">metadata.name.</param>
    /// <param name="specJson">Canonical JSON of the spec.</param>
    /// <param name="labels">metadata.labels. Default: none.</param>
    public static string Write(string name, string specJson, IReadOnlyDictionary<string, string>? labels = null) => Yaml(Document(name, specJson, labels).ToJsonString(ExperimentSpecJson.Options));

    /// <summary>The same document as indented JSON, which is YAML as well.</summary>
    /// <param name="name">metadata.name.</param>
    /// <param name="specJson">Canonical JSON of the spec.</param>
    /// <param name="labels">metadata.labels. Default: none.</param>
    public static string Json(string name, string specJson, IReadOnlyDictionary<string, string>? labels = null) => Document(name, specJson, labels).ToJsonString(new JsonSerializerOptions(ExperimentSpecJson.Options) { WriteIndented = true, NewLine = "\n" });

    /// <summary>YAML of a part of a spec.</summary>
    internal static string Part(JsonObject part) => Yaml(part.ToJsonString(ExperimentSpecJson.Options));

    private static JsonObject Document(string name, string specJson, IReadOnlyDictionary<string, string>? labels) => new()
    {
        ["apiVersion"] = ExperimentDocument.ApiVersion,
        ["kind"] = ExperimentDocument.Kind,
        ["metadata"] = labels is { Count: > 0 } ? new JsonObject { ["name"] = name, ["labels"] = new JsonObject(labels.Select(label => new KeyValuePair<string, JsonNode?>(label.Key, label.Value))) } : new JsonObject { ["name"] = name },
        ["spec"] = JsonNode.Parse(specJson),
    };

    private static string Yaml(string json)
    {
        // JSON is YAML already: only its style is changed.
        var stream = new YamlStream();
        stream.Load(new StringReader(json));
        stream.Accept(new Style());
        using var writer = new StringWriter { NewLine = "\n" };
        stream.Save(writer, assignAnchors: false);
        var text = writer.ToString();
        const string End = "...\n";
        return (text.EndsWith(End, StringComparison.Ordinal) ? text[..^End.Length] : text).TrimEnd('\n');
    }

    private sealed class Style : YamlVisitorBase
    {
        public override void Visit(YamlMappingNode mapping)
        {
            mapping.Style = mapping.Children.Count == 0 ? MappingStyle.Flow : MappingStyle.Block;
            base.Visit(mapping);
        }

        public override void Visit(YamlSequenceNode sequence)
        {
            sequence.Style = sequence.Children.All(child => child is YamlScalarNode) ? SequenceStyle.Flow : SequenceStyle.Block;
            base.Visit(sequence);
        }

        public override void Visit(YamlScalarNode scalar)
        {
            if (scalar.Style == ScalarStyle.DoubleQuoted && Plain().IsMatch(scalar.Value!) && !Taken().IsMatch(scalar.Value!))
                scalar.Style = ScalarStyle.Plain;
        }
    }

    /// <summary>Text that needs no quotes wherever it stands.</summary>
    [GeneratedRegex(@"^[A-Za-z/][A-Za-z0-9_./+-]*\z")]
    private static partial Regex Plain();

    /// <summary>Words that some reader of YAML takes for something else than text.</summary>
    [GeneratedRegex(@"^(null|true|false|yes|no|on|off|y|n|nan|inf)\z", RegexOptions.IgnoreCase)]
    private static partial Regex Taken();
}
