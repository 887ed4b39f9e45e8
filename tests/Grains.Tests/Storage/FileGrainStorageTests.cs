using AdjointDpm.Grains.Storage;
using Orleans.Storage;

namespace AdjointDpm.Grains.Tests.Storage;

public sealed class FileGrainStorageTests : IDisposable
{
    private static readonly GrainId Id = GrainId.Create("test", "a/b");
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-storage-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task State_SurvivesARestart()
    {
        var written = new GrainState<Thing> { State = new Thing { Number = 3, Loss = double.NaN } };
        await New().WriteStateAsync("s", Id, written);
        var read = new GrainState<Thing>();
        await New().ReadStateAsync("s", Id, read);
        Assert.True(read.RecordExists);
        Assert.Equal(3, read.State!.Number);
        Assert.True(double.IsNaN(read.State.Loss));
        Assert.Equal(written.ETag, read.ETag);
    }

    [Fact]
    public async Task Read_OfNothing_GivesAFreshState()
    {
        var state = new GrainState<Thing>();
        await New().ReadStateAsync("s", Id, state);
        Assert.False(state.RecordExists);
        Assert.Null(state.ETag);
        Assert.NotNull(state.State);
    }

    [Fact]
    public async Task Write_WithAnOldETag_IsAConflict()
    {
        var first = new GrainState<Thing> { State = new Thing { Number = 1 } };
        await New().WriteStateAsync("s", Id, first);
        var second = new GrainState<Thing>();
        await New().ReadStateAsync("s", Id, second);
        await New().WriteStateAsync("s", Id, first);
        await Assert.ThrowsAsync<InconsistentStateException>(() => New().WriteStateAsync("s", Id, second));
        await Assert.ThrowsAsync<InconsistentStateException>(() => New().ClearStateAsync("s", Id, second));
        await Assert.ThrowsAsync<InconsistentStateException>(() => New().WriteStateAsync("s", Id, new GrainState<Thing> { State = new Thing() }));
    }

    [Fact]
    public async Task ManyWriters_OneWinsEachRound()
    {
        var start = new GrainState<Thing> { State = new Thing() };
        await New().WriteStateAsync("s", Id, start);
        var won = 0;
        await Parallel.ForAsync(0, 8, TestContext.Current.CancellationToken, async (_, _) =>
        {
            for (var i = 0; i < 10; i++)
            {
                var state = new GrainState<Thing>();
                await New().ReadStateAsync("s", Id, state);
                state.State!.Number++;
                try
                {
                    await New().WriteStateAsync("s", Id, state);
                    Interlocked.Increment(ref won);
                }
                catch (InconsistentStateException)
                {
                    // Another writer was first.
                }
            }
        });
        var end = new GrainState<Thing>();
        await New().ReadStateAsync("s", Id, end);
        Assert.Equal(won, end.State!.Number);
        Assert.True(won >= 10);
    }

    [Fact]
    public async Task Clear_ThenWrite_Works()
    {
        var state = new GrainState<Thing> { State = new Thing { Number = 1 } };
        await New().WriteStateAsync("s", Id, state);
        await New().ClearStateAsync("s", Id, state);
        Assert.False(state.RecordExists);
        await New().WriteStateAsync("s", Id, state);
        Assert.True(state.RecordExists);
    }

    private FileGrainStorage New() => new(_folder, TimeProvider.System, new LocalDisk());

    internal sealed class Thing
    {
        public int Number { get; set; }

        public double Loss { get; set; }
    }
}
