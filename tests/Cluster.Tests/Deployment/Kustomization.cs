using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using k8s;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace AdjointDpm.Cluster.Tests.Deployment;

/// <summary>Renders a folder as <c>kubectl kustomize</c> does, as far as deploy/k8s makes use of it, and refuses the rest: resources, components, namespace, images, patches by target (merged, or of JSON 6902).</summary>
internal static class Kustomization
{
    private static readonly string[] Known = ["apiVersion", "kind", "namespace", "resources", "components", "patches", "images"];

    /// <summary>What elements of lists are told apart by; other lists are replaced as a whole.</summary>
    private static readonly Dictionary<string, string> Keys = new() { ["containers"] = "name", ["env"] = "name", ["volumes"] = "name", ["volumeMounts"] = "mountPath", ["ports"] = "containerPort" };

    /// <summary>Objects that the cluster's server would get, each read strictly into its typed model.</summary>
    public static IReadOnlyList<object> Typed(string folder) => [.. Render(folder).SelectMany(item => KubernetesYaml.LoadAllFromString(item.ToJsonString(), strict: true))];

    public static List<JsonObject> Render(string folder)
    {
        var items = new List<JsonObject>();
        Accumulate(folder, items);
        return items;
    }

    /// <summary>One document, with what it takes over from others by anchors laid in.</summary>
    public static JsonObject Read(string file) => Documents(File.ReadAllText(file)).Single().AsObject();

    /// <summary>All documents of a file.</summary>
    public static List<JsonObject> ReadAll(string file) => [.. Documents(File.ReadAllText(file)).Select(document => document.AsObject())];

    private static void Accumulate(string folder, List<JsonObject> items)
    {
        var file = Read(Path.Combine(folder, "kustomization.yaml"));
        Assert.All(file.Select(pair => pair.Key), key => Assert.Contains(key, Known));
        // A component changes what is there; anything else has objects of its own.
        var own = (string?)file["kind"] == "Component" ? items : [];
        foreach (var resource in Strings(file["resources"]))
        {
            var path = Path.GetFullPath(Path.Combine(folder, resource));
            if (Directory.Exists(path))
                Accumulate(path, own);
            else
                own.AddRange(Documents(File.ReadAllText(path)).Select(document => document.AsObject()));
        }
        foreach (var component in Strings(file["components"]))
            Accumulate(Path.GetFullPath(Path.Combine(folder, component)), own);
        foreach (var patch in file["patches"]?.AsArray() ?? [])
        {
            var text = (string?)patch!["patch"] ?? File.ReadAllText(Path.Combine(folder, (string)patch["path"]!));
            var targets = own.Where(item => IsTarget(item, patch["target"]!)).ToList();
            Assert.True(targets.Count > 0, $"{folder}: a patch has no target: {patch["target"]!.ToJsonString()}");
            foreach (var target in targets)
                Patch(target, Documents(text).Single());
        }
        foreach (var image in file["images"]?.AsArray() ?? [])
            foreach (var container in own.SelectMany(Containers).Where(container => ((string)container["image"]!).Split(':')[0] == (string)image!["name"]!))
                container["image"] = $"{(string?)image!["newName"] ?? (string)image["name"]!}:{(string)image["newTag"]!}";
        if ((string?)file["namespace"] is { } space)
            foreach (var item in own.Where(item => (string)item["kind"]! != "Namespace"))
                item["metadata"]!["namespace"] = space;
        if (!ReferenceEquals(own, items))
            items.AddRange(own);
    }

    private static bool IsTarget(JsonObject item, JsonNode target) =>
        (string?)target["kind"] is var kind && (kind is null || kind == (string)item["kind"]!)
        && (string?)target["name"] is var name && (name is null || Regex.IsMatch((string)item["metadata"]!["name"]!, $"^(?:{name})$"))
        && (string?)target["labelSelector"] is var selector && (selector is null || selector.Split('=') is [var key, var value] && (string?)item["metadata"]!["labels"]?[key] == value);

    private static IEnumerable<JsonNode> Containers(JsonObject item) => item["spec"]?["template"]?["spec"]?["containers"]?.AsArray().OfType<JsonNode>() ?? [];

    private static void Patch(JsonObject target, JsonNode patch)
    {
        if (patch is JsonArray operations)
        {
            foreach (var operation in operations)
                Apply(target, operation!);
            return;
        }
        // Its kind and name only say what it is a part of.
        var metadata = patch["metadata"]!.AsObject();
        metadata.Remove("name");
        Merge(target, patch.AsObject());
    }

    private static void Apply(JsonObject target, JsonNode operation)
    {
        var path = ((string)operation["path"]!).Split('/')[1..].Select(part => part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal)).ToArray();
        JsonNode at = target;
        foreach (var part in path[..^1])
            at = (at is JsonArray list ? list[int.Parse(part, CultureInfo.InvariantCulture)] : at[part]) ?? throw new InvalidDataException($"No '{part}' for {operation.ToJsonString()}.");
        var (verb, last, value) = ((string)operation["op"]!, path[^1], operation["value"]?.DeepClone());
        switch (verb, at)
        {
            case ("add", JsonArray array) when last == "-":
                array.Add(value);
                break;
            case ("add", JsonObject map):
                map[last] = value;
                break;
            case ("replace", JsonObject map) when map.ContainsKey(last):
                map[last] = value;
                break;
            case ("remove", JsonObject map) when map.Remove(last):
                break;
            default:
                throw new InvalidDataException($"Not done here, or there is nothing to do it to: {operation.ToJsonString()}.");
        }
    }

    private static void Merge(JsonObject into, JsonObject patch)
    {
        foreach (var (name, value) in patch.ToList())
            switch (into[name], value)
            {
                case (_, null):
                    into.Remove(name);
                    break;
                case (JsonObject old, JsonObject merged):
                    Merge(old, merged);
                    break;
                case (JsonArray old, JsonArray merged) when Keys.TryGetValue(name, out var key):
                    // The patch's elements come first, in its order, as with kustomize.
                    var first = new List<JsonNode>();
                    foreach (var element in merged.OfType<JsonObject>())
                        if (old.OfType<JsonObject>().FirstOrDefault(other => other[key]!.ToJsonString() == element[key]!.ToJsonString()) is { } same)
                        {
                            Merge(same, element);
                            old.Remove(same);
                            first.Add(same);
                        }
                        else
                            first.Add(element.DeepClone());
                    for (var i = 0; i < first.Count; i++)
                        old.Insert(i, first[i]);
                    break;
                default:
                    into[name] = value.DeepClone();
                    break;
            }
    }

    private static IEnumerable<string> Strings(JsonNode? list) => list?.AsArray().Select(item => (string)item!) ?? [];

    private static IEnumerable<JsonNode> Documents(string yaml)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(yaml));
        return [.. stream.Documents.Select(document => Convert(document.RootNode)!)];
    }

    private static JsonObject Map(YamlMappingNode map)
    {
        var made = new JsonObject();
        foreach (var (key, value) in map.Children)
            if (((YamlScalarNode)key).Value! is not "<<" and var name)
                made[name] = Convert(value);
        foreach (var (key, value) in map.Children)
            if (((YamlScalarNode)key).Value == "<<")
                foreach (var (name, taken) in Convert(value)!.AsObject().Where(pair => !made.ContainsKey(pair.Key)).ToList())
                    made[name] = taken?.DeepClone();
        return made;
    }

    private static JsonNode? Convert(YamlNode node) => node switch
    {
        YamlMappingNode map => Map(map),
        YamlSequenceNode list => new JsonArray([.. list.Children.Select(Convert)]),
        YamlScalarNode { Style: ScalarStyle.Plain } scalar => scalar.Value switch
        {
            null or "" or "null" or "~" => null,
            "true" => true,
            "false" => false,
            var text when long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) => number,
            var text => text,
        },
        YamlScalarNode scalar => scalar.Value,
        _ => throw new InvalidDataException($"No {node.NodeType} here."),
    };
}
