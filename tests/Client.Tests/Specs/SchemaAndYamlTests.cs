using System.Text.Json.Nodes;
using AdjointDpm.Grains.Specs;
using NJsonSchema;
using YamlDotNet.Serialization;

namespace AdjointDpm.Client.Tests.Specs;

/// <summary>What 'adpm schema' and 'adpm config' print means what the reader of experiments means.</summary>
public sealed class SchemaAndYamlTests
{
    public static TheoryData<string> Examples { get; } = [.. Directory.GetFiles(Folder, "*.yaml").Select(file => Path.GetFileName(file)!)];

    private static string Folder => Path.Combine(Path.GetDirectoryName(Repository.Path(Here()))!, "../../../examples");

    [Theory]
    [MemberData(nameof(Examples))]
    public async Task Examples_HoldBySchema_AndSoDoTheyWithAllDefaults(string name)
    {
        var schema = await JsonSchema.FromJsonAsync(ExperimentSchema.Json(), TestContext.Current.CancellationToken);
        var file = Path.Combine(Folder, name);
        Assert.Empty(schema.Validate(Json(await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken))));

        var document = Read(ExperimentDocument.Load(file));
        var yaml = ExperimentYaml.Write(document.Name, document.SpecJson);
        Assert.Empty(schema.Validate(Json(yaml)));
        foreach (var text in new[] { yaml, ExperimentYaml.Json(document.Name, document.SpecJson) })
        {
            var again = Read(ExperimentDocument.Parse(text, "elsewhere/again.yaml"));
            Assert.Equal(document.SpecJson, again.SpecJson);
            Assert.Equal(document.Id, again.Id);
        }
    }

    [Theory]
    [InlineData("    steps: 12", "    stepz: 12", "stepz")]
    [InlineData("    learningRate: 1.0e-4", "    learningRate: fast", "learningRate")]
    [InlineData("kind: Experiment", "kind: Job", "kind")]
    [InlineData("adjointdpm.dev/v1", "adjointdpm.dev/v0", "apiVersion")]
    public async Task WhatTheReaderRefuses_TheSchemaRefuses(string from, string to, string key)
    {
        var text = await File.ReadAllTextAsync(Path.Combine(Folder, "stylize-digits.yaml"), TestContext.Current.CancellationToken);
        Assert.Contains(from, text, StringComparison.Ordinal);
        var broken = text.Replace(from, to, StringComparison.Ordinal);
        Assert.Null(ExperimentDocument.Parse(broken, Path.Combine(Folder, "broken.yaml")).Document);
        var schema = await JsonSchema.FromJsonAsync(ExperimentSchema.Json(), TestContext.Current.CancellationToken);
        Assert.Contains(key, string.Concat(schema.Validate(Json(broken)).Select(error => error.ToString())), StringComparison.Ordinal);
    }

    [Fact]
    public void Schema_ExplainsEveryKey_AndTellsDefaults()
    {
        var schema = JsonNode.Parse(ExperimentSchema.Json())!;
        var keys = 0;
        foreach (var (name, definition) in schema["definitions"]!.AsObject())
        {
            foreach (var (key, value) in definition!["properties"]!.AsObject())
            {
                keys++;
                Assert.True(value!["description"] is not null, $"{name}.{key} has no description.");
            }
        }

        Assert.True(keys > 60, $"Only {keys} keys.");
        Assert.Equal(0.999, schema["definitions"]!["OptimizerSpec"]!["properties"]!["beta2"]!["default"]!.GetValue<double>());
        Assert.Equal("discrete", schema["definitions"]!["GradientSpec"]!["properties"]!["method"]!["default"]!.GetValue<string>());
    }

    [Fact]
    public void Texts_ThatLookLikeSomethingElse_StayTexts()
    {
        foreach (var value in new[] { "true", "null", "~", "1e-4", "0x10", "[1, 2]", "a: b", "- a", "#", "it's", "\"", "é", " leading", "on", "x\ty" })
        {
            var text = ExperimentYaml.Write("a", new JsonObject { ["key"] = value }.ToJsonString());
            var read = (Dictionary<object, object>)new DeserializerBuilder().Build().Deserialize<Dictionary<object, object>>(text)["spec"];
            Assert.Equal(value, read["key"]);
        }
    }

    private static ExperimentDocument Read(ExperimentDocumentResult result)
    {
        Assert.True(result.Document is not null, string.Join('\n', result.Problems));
        return result.Document;
    }

    /// <summary>By another reader of YAML than ours.</summary>
    private static string Json(string yaml) =>
        new SerializerBuilder().JsonCompatible().Build().Serialize(new DeserializerBuilder().WithAttemptingUnquotedStringTypeDeserialization().Build().Deserialize(yaml)!);

    private static string Here([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;
}
