using System.Reflection;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Serialization;

namespace AdjointDpm.Grains.Tests.Wire;

/// <summary>
/// What former builds wrote is read by this one: every record of the wire and every stored state, from bytes that are kept beside this
/// file. A line is never written again. <c>ADJOINTDPM_WRITE=1</c> adds those of new records, and of old ones that have new members.
/// </summary>
public sealed class GoldenTests
{
    private static readonly Type[] States = [typeof(ExperimentState), typeof(DirectoryState), typeof(TrialState), typeof(CordonState)];

    private static readonly Dictionary<string, Type> Records = new[] { typeof(ExperimentSubmission).Assembly, typeof(TrialState).Assembly }
        .SelectMany(assembly => assembly.GetTypes()).Where(type => type.IsDefined(typeof(GenerateSerializerAttribute)) && !type.IsAbstract && !type.IsGenericTypeDefinition && !type.IsAssignableTo(typeof(Exception)))
        .ToDictionary(type => type.GetCustomAttribute<AliasAttribute>()?.Alias ?? type.FullName!);

    private static readonly Dictionary<string, Type> All = Records.Concat(States.Select(type => KeyValuePair.Create("state " + type.Name, type))).ToDictionary();

    private static readonly MethodInfo ToBytes = typeof(GoldenTests).GetMethod(nameof(Bytes), BindingFlags.NonPublic | BindingFlags.Static)!;
    private static readonly MethodInfo FromBytes = typeof(GoldenTests).GetMethod(nameof(Read), BindingFlags.NonPublic | BindingFlags.Static)!;

    private static readonly Serializer Serializer = new ServiceCollection().AddSerializer(builder =>
    {
        builder.AddAssembly(typeof(ExperimentSubmission).Assembly);
        builder.AddAssembly(typeof(TrialState).Assembly);
    }).BuildServiceProvider().GetRequiredService<Serializer>();

    private static string Kept => Path.Combine(Root(), "tests", "Grains.Tests", "Wire", "golden.tsv");

    [Fact]
    public void WhatFormerBuildsWrote_IsReadByThisOne()
    {
        var lines = Lines();
        Assert.True(lines.Count >= All.Count);
        var problems = new List<string>();
        foreach (var (name, bytes, then) in lines)
            if (!All.TryGetValue(name, out var type))
                problems.Add($"{name}: there is no such record any more, but silos of former builds send it.");
            else if (Samples.Difference(then, Samples.Describe(FromBytes.MakeGenericMethod(type).Invoke(null, [name, bytes]))) is { } difference)
                problems.Add(name + difference);
        Assert.Empty(problems);
    }

    /// <summary>Members that are new have a line of their own from then on.</summary>
    [Fact]
    public void EveryRecord_HasALineWithAllItsMembers()
    {
        var lines = Lines();
        var missing = new List<string>();
        foreach (var (name, type) in All.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            var sample = Samples.Of(type);
            var now = Samples.Describe(sample);
            if (!lines.Any(line => line.Name == name && Samples.Difference(now, line.Then) is null))
                missing.Add($"{name}\t{Convert.ToHexString((byte[])ToBytes.MakeGenericMethod(type).Invoke(null, [name, sample])!)}\t{now?.ToJsonString() ?? "null"}");
        }
        if (Environment.GetEnvironmentVariable("ADJOINTDPM_WRITE") == "1" && missing.Count > 0)
        {
            File.AppendAllLines(Kept, missing);
            return;
        }
        Assert.True(missing.Count == 0, $"golden.tsv has no line with all members of: {string.Join(", ", missing.Select(line => line.Split('\t')[0]))}. ADJOINTDPM_WRITE=1 adds them.");
    }

    [Fact]
    public void MemberThatIsGone_OrHasAnotherNumberOrType_IsADifference()
    {
        Assert.Null(Samples.Difference(JsonNode.Parse("""{"0":"a","1":["b"]}"""), JsonNode.Parse("""{"0":"a","1":["b"],"2":"c"}""")));
        Assert.NotNull(Samples.Difference(JsonNode.Parse("""{"0":"a"}"""), JsonNode.Parse("""{"1":"a"}""")));
        Assert.NotNull(Samples.Difference(JsonNode.Parse("""{"0":{"1":"a"}}"""), JsonNode.Parse("""{"0":{"1":"b"}}""")));
        Assert.NotNull(Samples.Difference(JsonNode.Parse("""{"0":["a"]}"""), JsonNode.Parse("""{"0":[]}""")));
    }

    private static byte[] Bytes<T>(string name, T value) => name.StartsWith("state ", StringComparison.Ordinal) ? new StateSerializer().Serialize(value).ToArray() : Serializer.SerializeToArray(value);

    private static T? Read<T>(string name, byte[] bytes) => name.StartsWith("state ", StringComparison.Ordinal) ? StateSerializer.Read<T>(bytes, name) : Serializer.Deserialize<T>(bytes);

    private static List<(string Name, byte[] Bytes, JsonNode? Then)> Lines() => !File.Exists(Kept) ? [] : [.. File.ReadLines(Kept).Select(line => line.Split('\t')).Select(parts => (parts[0], Convert.FromHexString(parts[1]), JsonNode.Parse(parts[2])))];

    private static string Root()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "AdjointDpm.sln")))
                return folder.FullName;
        throw new InvalidOperationException("AdjointDpm.sln is in no folder above the tests.");
    }
}
