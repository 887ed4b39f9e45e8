using System.Buffers;
using System.Text;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Storage;

/// <summary>State of older and newer builds: read where it can be, refused with a sentence where it cannot.</summary>
public sealed class StateSchemaTests
{
    /// <summary>As builds before the schema had a number wrote it.</summary>
    private const string Old = """{"submission":{"specJson":"{}","specSha256":"ab","name":"old"},"state":"running","reason":null,"epoch":3,"cancelRequested":true,"limit":null,"paused":false,"pausedTrials":[1],"cancelledTrials":[2],"submittedAt":"2026-11-01T00:00:00+00:00","endedAt":null}""";

    [Fact]
    public void StateFromBeforeTheNumber_IsRead_AndWrittenWithIt()
    {
        var state = StateSerializer.Read<ExperimentState>(Encoding.UTF8.GetBytes(Old), "old");
        Assert.Equal(("old", RunState.Running, 3L, true, null), (state.Submission!.Name, state.State, state.Epoch, state.CancelRequested, state.Project));
        Assert.StartsWith($$"""{"$schema":{{StateSerializer.Schema}},"submission":""", new StateSerializer().Serialize(state).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void MembersOfANewerBuild_ArePassedOver_AndMissingOnesHaveTheirDefaults()
    {
        var newer = StateSerializer.Read<ExperimentState>(Encoding.UTF8.GetBytes("""{"$schema":1,"tomorrow":{"a":[1,2]},"state":"paused","epoch":7}"""), "newer");
        Assert.Equal((RunState.Paused, 7L, null), (newer.State, newer.Epoch, newer.Submission));
        Assert.Empty(newer.PausedTrials);
    }

    [Fact]
    public void NewerSchema_IsRefusedWithASentence()
    {
        var refused = Assert.Throws<InvalidDataException>(() => new StateSerializer().Deserialize<ExperimentState>(new BinaryData("""{"$schema":2,"state":"running"}""")));
        Assert.Equal("The state 'ExperimentState' has schema 2, but this silo reads up to 1: a newer version of AdjointDpm wrote it. Run that version, or restore a backup from before it.", refused.Message);
        Assert.Contains("cannot be read", Assert.Throws<InvalidDataException>(() => new StateSerializer().Deserialize<ExperimentState>(new BinaryData("{\"$schema\":1,"))).Message, StringComparison.Ordinal);
        Assert.Contains("cannot be read", Assert.Throws<InvalidDataException>(() => new StateSerializer().Deserialize<ExperimentState>(new BinaryData("null"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryKindOfState_ComesBackAsItWas()
    {
        var buffer = new ArrayBufferWriter<byte>();
        StateSerializer.Write(buffer, new TrialState());
        Assert.NotNull(StateSerializer.Read<TrialState>(buffer.WrittenSpan, "trial"));
        Assert.NotNull(new StateSerializer().Deserialize<DirectoryState>(new StateSerializer().Serialize(new DirectoryState())));
    }

    [Fact]
    public async Task MembershipOfANewerBuild_IsRefusedWithASentence()
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-schema-");
        var file = new MembershipFile(folder.FullName, "c", TimeProvider.System);
        Directory.CreateDirectory(file.Folder);
        await File.WriteAllTextAsync(file.Path, """{"schema":2,"version":1,"silos":[]}""", TestContext.Current.CancellationToken);
        Assert.Contains("has schema 2, but this version of AdjointDpm reads up to 1", (await Assert.ThrowsAsync<InvalidDataException>(() => file.ReadAsync(TestContext.Current.CancellationToken))).Message, StringComparison.Ordinal);
        folder.Delete(recursive: true);
    }
}
