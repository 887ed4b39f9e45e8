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
        var first = await OpenAsync(1);
        await first.AppendAsync(Line(1, "a"), durable: false);
        await first.AppendAsync(Line(2, "b"), durable: false);
        var second = await OpenAsync(2, "a", "b");
        await first.AppendAsync(Line(3, "of the former"), durable: false);
        await second.AppendAsync(Line(3, "c"), durable: false);
        await first.AppendAsync(Line(4, "of the former"), durable: false);
        await first.AppendAsync(Line(5, "of the former"), durable: false);
        await second.AppendAsync(Line(4, "d"), durable: false);
        await OpenAsync(3, "a", "b", "c", "d");
    }

    [Fact]
    public async Task LinesOfAnActivation_ThatTheNextDidNotBuildOn_ArePassedOver()
    {
        var first = await OpenAsync(1);
        await first.AppendAsync(Line(1, "a"), durable: false);
        var second = await OpenAsync(2, "a");
        await first.AppendAsync(Line(2, "b"), durable: false);
        var third = await OpenAsync(3, "a", "b");
        await second.AppendAsync(Line(2, "x"), durable: false);
        await second.AppendAsync(Line(3, "y"), durable: false);
        await third.AppendAsync(Line(3, "c"), durable: false);
        await second.AppendAsync(Line(4, "z"), durable: false);
        await OpenAsync(4, "a", "b", "c");
    }

    [Fact]
    public async Task LineCutOffByACrash_IsPassedOver()
    {
        await (await OpenAsync(1)).AppendAsync(Line(1, "a"), durable: true);
        await File.AppendAllTextAsync(Directory.GetFiles(_folder)[0], "{\"event\":{\"seq", TestContext.Current.CancellationToken);
        await (await OpenAsync(2, "a")).AppendAsync(Line(2, "b"), durable: true);
        await OpenAsync(3, "a", "b");
    }

    private static JournalLine Line(long sequence, string message) => new() { Event = new ExperimentEvent { Sequence = sequence, Time = DateTimeOffset.UnixEpoch, Kind = EventKind.Submitted, Message = message } };

    private async Task<ExperimentJournal> OpenAsync(long epoch, params string[] expected)
    {
        var journal = new ExperimentJournal(new LocalDisk(), _folder, epoch);
        Assert.Equal(expected, (await journal.ReadAsync()).Select(line => line.Event.Message));
        return journal;
    }
}
