using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Tests.Specs;

public sealed class SpecJsonTests : IDisposable
{
    private const string Canonical =
        """{"model":{"path":"/m","dtype":"float32"},"train":{"target":"weights","include":["*"],"rank":4},"sample":{"solver":"ddim","steps":20,"grid":"logsnr","guidance":1},"losses":[{"name":"cross-entropy","weight":1,"classifier":"/c"}],"gradient":{"method":"discrete","check":{"mode":"on","samples":1,"minCosine":0.99,"maxNormError":0.1}},"optimizer":{"name":"adamw","learningRate":0.0001,"beta1":0.9,"beta2":0.999,"epsilon":1E-08,"weightDecay":0},"training":{"steps":20,"shards":4,"samplesPerShard":4,"seed":1},"objective":{"metric":"loss","goal":"minimize"},"algorithm":{"name":"grid","seed":1},"parameters":{},"maxConcurrentTrials":1,"resources":{"device":"cpu","threads":1},"failure":{"maxShardAttempts":5,"leaseSeconds":5},"checkpoint":{"sheetRows":4}}""";

    private static readonly ExperimentSpec Spec = new()
    {
        Model = new() { Path = "/m" }, Losses = [new() { Name = LossName.CrossEntropy, Classifier = "/c" }],
    };

    private readonly SpecFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Serialize_WritesAllDefaultsInDeclaredOrder()
    {
        Assert.Equal(Canonical, ExperimentSpecJson.Serialize(Spec));
        Assert.Equal("6b785e23", ExperimentSpecJson.Sha256(Canonical)[..8]);
        Assert.Equal(Canonical, ExperimentSpecJson.Serialize(ExperimentSpecJson.Deserialize(Canonical)));
    }

    [Fact]
    public void Parse_SpellingLayoutAndWrittenDefaults_DoNotChangeTheHash()
    {
        var document = _folder.Parse(SpecFolder.Valid).Document!;
        var other = _folder.Parse("# a comment\n" + SpecFolder.Valid
            .Replace("[1e-4, 3e-4]", "[0.0001, '3.0e-4']").Replace("learningRate: 1e-4", "learningRate: 0.00010\n    beta1: 0.9")
            .Replace("path: unet", "path: ./judge/../unet")).Document!;
        Assert.Equal(document.SpecJson, other.SpecJson);
        Assert.Equal(document.Id, other.Id);
        Assert.Equal($"stylize-{document.SpecSha256[..8]}", document.Id);
        Assert.Equal("art", document.Labels["team"]);
        Assert.Equal(Path.Combine(_folder.Folder, "unet"), document.Spec.Model.Path);
        Assert.Equal(["optimizer.learningRate", "losses[1].weight"], document.Spec.Parameters.Keys);
        Assert.NotEqual(document.SpecSha256, _folder.Parse(SpecFolder.Valid.Replace("maxTrials: 4", "maxTrials: 3")).Document!.SpecSha256);
    }

    [Theory]
    [InlineData("\"steps\":20,\"shards\"", "\"stepz\":20,\"shards\"", "stepz")]
    [InlineData("\"rank\":4", "\"rank\":0", "train.rank must be a whole number from 1 to 1024, but is 0.")]
    [InlineData("\"rank\":4", "\"rank\":4,\"rank\":5", "rank")]
    [InlineData("\"rank\":4", "\"rank\":\"4\"", "rank")]
    [InlineData("\"ddim\"", "0", "solver")]
    [InlineData("\"classifier\":\"/c\"", "\"layers\":[]", "losses[0].layers must have at least 1 items, but has 0.")]
    [InlineData(",\"classifier\":\"/c\"", "", "needs 'classifier'")]
    [InlineData("\"parameters\":{}", "\"parameters\":{\"a.b\":{\"values\":[\"1\"],\"distribution\":\"uniform\"}}", "'a.b' is no place in the spec.")]
    [InlineData("{\"model\":", "[{\"model\":", "The spec is not what this version reads")]
    public void Deserialize_WhatDoesNotHold_IsRefused(string right, string wrong, string expected)
    {
        Assert.Contains(right, Canonical);
        Assert.Contains(expected, Assert.Throws<SpecException>(() => ExperimentSpecJson.Deserialize(Canonical.Replace(right, wrong))).Message);
    }

    [Theory]
    [InlineData("optimizer.learningRate", "3e-4", "\"learningRate\":0.0003")]
    [InlineData("losses[0].weight", "2", "\"weight\":2")]
    [InlineData("sample.solver", "rk4", "\"solver\":\"rk4\"")]
    [InlineData("optimizer.maxNorm", "1", "\"maxNorm\":1")]
    [InlineData("train.include", "[\"a\",\"b\"]", "\"include\":[\"a\",\"b\"]")]
    [InlineData("sample.classes", "[1,2]", "\"classes\":[1,2]")]
    [InlineData("training.steps", "7", "\"steps\":7,\"shards\"")]
    public void Apply_SetsOneValue(string path, string value, string expected)
    {
        var json = SpecOverrides.Apply(Canonical, path, value);
        Assert.Contains(expected, json);
        Assert.Equal(json, ExperimentSpecJson.Serialize(ExperimentSpecJson.Deserialize(json)));
    }

    [Theory]
    [InlineData("optimizer.learningRate", "fast", "optimizer.learningRate must be a number from 1e-12 to 1000, but is 'fast'.")]
    [InlineData("optimizer.lerningRate", "1", "'optimizer.lerningRate' is no place in the spec. Did you mean 'optimizer.learningRate'?")]
    [InlineData("losses[1].weight", "1", "'losses[1].weight' speaks of item 1 of losses, but there are 1, counted from 0.")]
    [InlineData("losses[x].weight", "1", "'losses[x].weight' is no place in the spec. Did you mean 'losses[0].weight'?")]
    [InlineData("heldOut.samples", "1", "'heldOut.samples' cannot be set because the spec has no heldOut.")]
    [InlineData("", "1", "'' is no place in the spec. Write it like 'optimizer.learningRate' or 'losses[0].weight'.")]
    public void Apply_WhatDoesNotBind_IsRefused(string path, string value, string expected) =>
        Assert.Equal(expected, Assert.Throws<SpecException>(() => SpecOverrides.Apply(Canonical, path, value)).Message);

    [Fact]
    public void Apply_ValuesOfATrial_TakeTheSearchOut()
    {
        var document = _folder.Parse(SpecFolder.Valid).Document!;
        var spec = ExperimentSpecJson.Deserialize(SpecOverrides.Apply(document.SpecJson, [new("optimizer.learningRate", "0.0003"), new("losses[1].weight", "1")]));
        Assert.Equal((3e-4, 1.0, 0, null), (spec.Optimizer.LearningRate, spec.Losses[1].Weight, spec.Parameters.Count, spec.MaxTrials));
    }

    [Fact]
    public void Parse_ListedLists_AreKeptAsJson() => Assert.Equal(
        ["[\"a\",\"b\"]", "[\"c\"]"],
        _folder.Parse(SpecFolder.Valid.Replace("optimizer.learningRate: {values: [1e-4, 3e-4]}", "train.include: {values: [[a, b], [c]]}")).Document!.Spec.Parameters["train.include"].Values!);

    /// <summary>Every key there is, set; each enum's words in turn.</summary>
    [Fact]
    public void EveryKey_IsReadAndWrittenAsTheSerializerDoes()
    {
        var shape = SpecShape.Of<ExperimentSpec>();
        for (var turn = 0; turn < 40; turn++)
        {
            var node = Filled(shape, turn).AsObject();
            var spec = JsonSerializer.Deserialize<ExperimentSpec>(node.ToJsonString(), ExperimentSpecJson.Options)!;
            var written = JsonSerializer.Serialize(spec, ExperimentSpecJson.Options);
            Assert.Equal(written, ExperimentSpecJson.Serialize(spec));
            Assert.Equal(written, JsonSerializer.Serialize(SpecRecords.Read<ExperimentSpec>(node), ExperimentSpecJson.Options));
        }
    }

    [Fact]
    public void Word_ThatIsNone_IsRefused()
    {
        var node = JsonNode.Parse(Canonical)!.AsObject();
        node["sample"]!["solver"] = "DDIM";
        Assert.Throws<JsonException>(() => SpecRecords.Read<ExperimentSpec>(node));
        Assert.Throws<JsonException>(() => ExperimentSpecJson.Serialize(Spec with { Sample = Spec.Sample with { Solver = (SolverName)99 } }));
    }

    private static JsonNode Filled(SpecShape shape, int turn) => shape switch
    {
        ObjectShape record => new JsonObject(record.Members.Select(member => KeyValuePair.Create(member.Name, (JsonNode?)Filled(member.Shape, turn)))),
        MapShape map => new JsonObject { ["a \"ü\" <b>"] = Filled(map.Value, turn), ["b"] = Filled(map.Value, turn + 1) },
        ListShape list => new JsonArray(Filled(list.Element, turn), Filled(list.Element, turn + 1)),
        ScalarShape { Type.IsEnum: true } scalar => scalar.Words[turn % scalar.Words.Count],
        ScalarShape scalar when scalar.Type == typeof(int) => 3 + turn,
        ScalarShape scalar when scalar.Type == typeof(double) => Math.Pow(10, turn - 20) / 3,
        ScalarShape scalar when scalar.Type == typeof(bool) => turn % 2 == 0,
        _ => $"text \\ 'é' {turn}\n",
    };
}
