using System.Text;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Grains.Tests.Storage;

public sealed class BucketArtifactsTests : IDisposable
{
    private readonly string _staging = Directory.CreateTempSubdirectory("adjointdpm-staging-").FullName;
    private readonly Pauses _time = new();
    private readonly MemoryBucket _bucket = new();

    public void Dispose() => Directory.Delete(_staging, recursive: true);

    [Fact]
    public async Task Write_SendsEveryFileAndTheManifestLast()
    {
        await SendAsync("spec/a");
        Assert.Equal(["experiments/x/trial-0/a.txt", "experiments/x/trial-0/model/b.txt", "experiments/x/trial-0/manifest.json"], _bucket.Puts);
        Assert.Equal("a.txt", Encoding.UTF8.GetString(_bucket.Objects["experiments/x/trial-0/a.txt"].Bytes));
        Assert.Equal("spec/a", _bucket.Objects["experiments/x/trial-0/manifest.json"].Notes["run"]);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));
        var files = await Artifacts().FilesAsync("x");
        Assert.Equal(["trial-0/a.txt", "trial-0/manifest.json", "trial-0/model/b.txt"], files["trial-0"]);
    }

    [Fact]
    public async Task Write_FilesEqualThoseOfAFolder()
    {
        await SendAsync("spec/a");
        var folder = Path.Combine(_staging, "kept");
        ArtifactFolder.Write(folder, "spec/a", Fill);
        foreach (var path in Directory.GetFiles(folder, "*", SearchOption.AllDirectories))
            Assert.Equal(await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken), _bucket.Objects[$"experiments/x/trial-0/{Path.GetRelativePath(folder, path)}"].Bytes);
    }

    [Fact]
    public async Task Write_InterruptedAtAnyPut_DoesNotCount_AndTheNextAttemptCompletesIt()
    {
        for (var last = 0; last < 3; last++)
        {
            _bucket.Objects.Clear();
            _bucket.Puts.Clear();
            using var stop = new CancellationTokenSource();
            _bucket.BeforePut = _ =>
            {
                if (_bucket.Puts.Count != last)
                    return null;
                stop.Cancel();
                return new OperationCanceledException(stop.Token);
            };
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Artifacts().Write(Place, "spec/a", Fill)(stop.Token));
            Assert.Equal(last, _bucket.Objects.Count);
            Assert.Empty(await Artifacts().FilesAsync("x"));
            Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));

            _bucket.BeforePut = _ => null;
            await SendAsync("spec/a");
            Assert.Equal(3, _bucket.Objects.Count);
            Assert.Single(await Artifacts().FilesAsync("x"));
        }
    }

    [Fact]
    public async Task Write_WhatIsCompleteAlready_IsNotSentAgain()
    {
        await SendAsync("spec/a");
        await SendAsync("spec/a");
        Assert.Equal(3, _bucket.Puts.Count);
    }

    [Fact]
    public async Task Write_ResultsOfAnotherRun_AreLeftAndTheTrialFails()
    {
        await SendAsync("spec/a");
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => SendAsync("spec/b"));
        Assert.StartsWith("'s3://results/experiments/x/trial-0' holds the results of another run", error.Message, StringComparison.Ordinal);
        Assert.True(WorkFailures.Of(error).Permanent);
        Assert.Equal("spec/a", _bucket.Objects["experiments/x/trial-0/manifest.json"].Notes["run"]);
    }

    [Fact]
    public async Task Write_ErrorsThatPass_AreWaitedFor_LongerAndLonger()
    {
        var refused = 0;
        _bucket.BeforePut = _ => ++refused <= 4 ? new ArtifactException("Busy.") { IsPassing = true } : null;
        await SendAsync("spec/a");
        Assert.Equal(3, _bucket.Objects.Count);
        Assert.Equal([0.5, 1, 2, 4], _time.Asked.Select(pause => pause.TotalSeconds));
    }

    [Fact]
    public async Task Write_ErrorThatStays_FailsTheAttemptOnceThePatienceIsOver()
    {
        _bucket.BeforePut = _ => new ArtifactException("No right to write.");
        var error = await Assert.ThrowsAsync<ArtifactException>(() => SendAsync("spec/a"));
        Assert.Equal(new WorkFailure(false, "No right to write."), WorkFailures.Of(error));
        // A minute of patience ends before a seventh pause of half a minute.
        Assert.Equal([0.5, 1, 2, 4, 8, 16], _time.Asked.Select(pause => pause.TotalSeconds));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));
    }

    [Fact]
    public void Write_PlaceOfOtherSettings_IsRefused()
    {
        Assert.Contains("this silo keeps results in s3://results", Assert.Throws<ArtifactException>(() => Artifacts().Write("/data/experiments/x/trial-0", "r", Fill)).Message, StringComparison.Ordinal);
        Assert.Contains("this silo keeps results in its data folder", Assert.Throws<ArtifactException>(() => new FolderArtifacts(new(_staging), new LocalDisk()).Write(Place, "r", Fill)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Write_RemovesWhatAKilledProcessLeft_AndNothingThatIsInUse()
    {
        var left = Directory.CreateDirectory(Path.Combine(_staging, "left")).FullName;
        await File.WriteAllTextAsync(left + ".lock", "", TestContext.Current.CancellationToken);
        var used = Artifacts().Write(Place, "spec/a", Fill);
        Assert.False(Directory.Exists(left));
        await SendAsync("spec/a");
        Assert.Equal(2, Directory.EnumerateFileSystemEntries(_staging).Count());
        await used(TestContext.Current.CancellationToken);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));
    }

    [Theory]
    [InlineData("")]
    [InlineData("..")]
    [InlineData("a/b")]
    public void PlaceOf_WhatIsNoId_IsRefused(string id) => Assert.Throws<ArgumentException>(() => Artifacts().PlaceOf(id));

    private static string Place => "s3://results/experiments/x/trial-0";

    private BucketArtifacts Artifacts() => new(_bucket, new BucketOptions(_staging, TimeSpan.FromSeconds(60)), new LocalDisk(), _time, NullLogger<BucketArtifacts>.Instance);

    private Task SendAsync(string run) => Artifacts().Write(Place, run, Fill)(TestContext.Current.CancellationToken);

    private static void Fill(string folder)
    {
        File.WriteAllText(Path.Combine(folder, "a.txt"), "a.txt");
        Directory.CreateDirectory(Path.Combine(folder, "model"));
        File.WriteAllText(Path.Combine(folder, "model", "b.txt"), "b.txt");
    }

    /// <summary>Every pause is over at once, and is counted as if it had been kept.</summary>
    private sealed class Pauses : TimeProvider
    {
        private long _now;

        public List<TimeSpan> Asked { get; } = [];

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Asked.Add(dueTime);
            _now += dueTime.Ticks;
            return System.CreateTimer(callback, state, TimeSpan.Zero, period);
        }
    }

    private sealed class MemoryBucket : IBucket
    {
        public Dictionary<string, (byte[] Bytes, IReadOnlyDictionary<string, string> Notes)> Objects { get; } = [];

        public List<string> Puts { get; } = [];

        public Func<string, Exception?> BeforePut { get; set; } = _ => null;

        public string Address => "s3://results";

        public async Task PutAsync(string key, BucketContent content, IReadOnlyDictionary<string, string> notes, CancellationToken cancellationToken)
        {
            if (BeforePut(key) is { } error)
                throw error;
            await using var stream = content.Open();
            var bytes = new byte[content.Length];
            await stream.ReadExactlyAsync(bytes, cancellationToken);
            Assert.Equal(BucketContent.Of(bytes).Sha256, content.Sha256);
            Assert.Equal(content.Sha256, notes["sha256"]);
            Objects[key] = (bytes, notes);
            Puts.Add(key);
        }

        public Task<IReadOnlyDictionary<string, string>?> NotesAsync(string key, CancellationToken cancellationToken) =>
            Task.FromResult(Objects.TryGetValue(key, out var found) ? found.Notes : null);

        public Task<Stream?> OpenAsync(string key, CancellationToken cancellationToken) =>
            Task.FromResult<Stream?>(Objects.TryGetValue(key, out var found) ? new MemoryStream(found.Bytes, writable: false) : null);

        public Task<IReadOnlyList<string>> ListAsync(string start, CancellationToken cancellationToken) =>
            Task.FromResult<IReadOnlyList<string>>([.. Objects.Keys.Where(key => key.StartsWith(start, StringComparison.Ordinal)).Order(StringComparer.Ordinal)]);
    }
}
