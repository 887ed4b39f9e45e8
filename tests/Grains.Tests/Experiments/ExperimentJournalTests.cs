using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Tests.Experiments;

public sealed class ExperimentJournalTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-journal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task LinesThatAFormerActivationAdds_AfterTheNextHasRead_ArePassedOver()
    {
        Append(1, 1, "a");
        Append(1, 2, "b");
        Assert.Equal(["a", "b"], await ReadAsync());
        Append(1, 3, "of the former");
        Append(1, 4, "of the former");
        Append(2, 3, "c");
        Append(2, 4, "d");
        Append(2, 5, "e");
        Assert.Equal(["a", "b", "c", "d", "e"], await ReadAsync());
    }

    [Fact]
    public async Task LineCutOffByACrash_IsPassedOver()
    {
        Append(1, 1, "a");
        await File.AppendAllTextAsync(Directory.GetFiles(_folder)[0], "{\"event\":{\"seq", TestContext.Current.CancellationToken);
        Append(2, 2, "b");
        Assert.Equal(["a", "b"], await ReadAsync());
    }

    private void Append(long epoch, long sequence, string message) => Journal(epoch).Append(
        new JournalLine { Event = new ExperimentEvent { Sequence = sequence, Time = DateTimeOffset.UnixEpoch, Kind = EventKind.Submitted, Message = message } }, durable: false);

    private async Task<IEnumerable<string>> ReadAsync() => (await Journal(9).ReadAsync()).Select(line => line.Event.Message);

    private ExperimentJournal Journal(long epoch) => new(new LocalDisk(), _folder, epoch);
}
