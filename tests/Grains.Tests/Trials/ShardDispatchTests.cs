using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Grains.Tests.Trials;

/// <summary>What counts against a shard, and what only happened to it.</summary>
public sealed class ShardDispatchTests : IDisposable
{
    private const string Trial = "e/0";

    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-test-").FullName;
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().AddSingleton<AdjointDpmInstruments>().BuildServiceProvider();
    private readonly LocalDisk _disk = new();
    private int _processes;

    public void Dispose()
    {
        _services.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task HandedBack_IsGivenToAnotherAtOnce_AndIsNoLoss()
    {
        var stopping = new Workers("one/cpu:0", "two/cpu:0")
        {
            Start = (worker, token) => token.Attempt <= 3 ? new(WorkState.Failed, null, new WorkFailure(false, "It is stopping.", HandedBack: true)) : Done(token, worker),
        };
        Assert.Equal(4, await RunAsync(stopping, attempts: 1));
        var failing = new Workers("one/cpu:0", "two/cpu:0") { Start = (_, _) => new(WorkState.Failed, null, new WorkFailure(false, "no disk here")) };
        Assert.Contains("was lost 1 times", (await Assert.ThrowsAsync<WorkFailedException>(() => RunAsync(failing, attempts: 1))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ShardThatOnlyWaitedAtAWorkerThatDied_HasLostNothing()
    {
        var dying = new Workers("one/cpu:0", "two/cpu:0")
        {
            Start = (worker, token) => token.Attempt > 4 ? Done(token, worker) : new(WorkState.Waiting),
            Wait = (_, _) => throw new SiloUnavailableException("gone"),
        };
        Assert.Equal(5, await RunAsync(dying, attempts: 1));
    }

    [Theory]
    [InlineData("heard to run"), InlineData("marked"), InlineData("marked before the answer")]
    public async Task ShardThatRanWhenItsWorkerDied_IsGivenUp_WithTheEvidence(string how)
    {
        var dying = new Workers("one/cpu:0", "two/cpu:0")
        {
            Start = (worker, token) =>
            {
                if (how != "heard to run")
                    Mark(token, worker);
                return how == "marked before the answer" ? throw new SiloUnavailableException("gone") : new(how == "marked" ? WorkState.Waiting : WorkState.Running);
            },
            Wait = (_, _) => throw new SiloUnavailableException("gone"),
        };
        var error = await Assert.ThrowsAsync<WorkFailedException>(() => RunAsync(dying, attempts: 3));
        Assert.Matches(@"^Step 3, shard 0 was lost 3 times, .+ Attempt 1: (one|two)/cpu:0: gone\. Attempt 2: .+ Attempt 3: .+", error.Message);
    }

    /// <summary>Many workers end at once and the first shard is lost again and again: gradients wait at their workers, for which a place more is found, and the step ends.</summary>
    [Theory]
    [InlineData(1, 24), InlineData(3, 24), InlineData(12, 48)]
    public async Task GradientsThatArriveAtOnce_WaitTheirTurn_AndTheFirstShardFindsAWorker(int workers, int shards)
    {
        var window = new GradientWindow(shards, ahead: 1);
        var reduction = new GradientReduction(shards, 1);
        var (peak, lost, under) = (0, 0, 0);
        var names = Enumerable.Range(0, workers).Select(i => $"{i:d2}/cpu:0").ToArray();
        var busy = new Workers(names)
        {
            // All others are there before the first one is, which is lost until none of them can go on.
            Start = (worker, token) => token.Shard > 0 || window.IsBlocked || lost++ > 200 ? Gradient(token, worker) : throw new SiloUnavailableException("gone"),
            Wait = (worker, token) => Gradient(token, worker),
        };
        await RunAsync(busy, Round(busy, attempts: 1000, shards) with
        {
            Lease = TimeSpan.FromSeconds(1),
            Window = window,
            Collect = async (_, cancellationToken) =>
            {
                peak = Math.Max(peak, Math.Max(window.Held, ++under));
                await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, cancellationToken);
                under--;
                return null;
            },
            Accept = (shard, result, _) => reduction.Add(shard, [shard], result.Weight),
        });
        Assert.True(reduction.IsComplete);
        Assert.InRange(peak, 1, window.Most);
        Assert.InRange(lost, 1, 200);
    }

    /// <summary>The coordinator's own silo died with the shard as well: what it knew stands on the disk.</summary>
    [Fact]
    public async Task LossesOfCoordinatorsBefore_Count_UntilTheStepIsCommitted()
    {
        var fine = new Workers("one/cpu:0") { Start = (worker, token) => Done(token, worker) };
        Mark(Token(epoch: 1, attempt: 1), "one/cpu:0");
        Mark(Token(epoch: 1, attempt: 2), "two/cpu:0");
        Mark(Token(epoch: 2, attempt: 1), "three/cpu:0");
        // Of another step, of another shard, and of a process that is there still.
        Mark(Token(epoch: 2, attempt: 1) with { Step = 1 }, "one/cpu:0");
        Mark(Token(epoch: 2, attempt: 1) with { Shard = 1 }, "one/cpu:0");
        Mark(Token(epoch: 2, attempt: 2), "four/cpu:0", "alive");
        var marks = Marks(fine);
        await marks.ReadAsync();
        Assert.Equal(1, await RunAsync(fine, attempts: 4, marks));
        var error = await Assert.ThrowsAsync<WorkFailedException>(() => RunAsync(fine, attempts: 3, marks));
        Assert.Contains("Attempt 1 of coordinator 1: one/cpu:0: its silo ended in the middle of it. Attempt 2 of coordinator 1: two/cpu:0: its silo", error.Message, StringComparison.Ordinal);
        marks.Clear(work => work.Step < 3);
        Assert.Single(Directory.GetFiles(Folders.Begun));
        await marks.ReadAsync();
        Assert.Equal(1, await RunAsync(fine, attempts: 1, marks));
    }

    [Fact]
    public void Slate_SaysWhatIsComputed_AndIsGoneWhenTheSiloStops()
    {
        using var stopping = new CancellationTokenSource();
        var name = AttemptMark.SlateOf("one/cpu:0", "p");
        var path = Path.Combine(_folder, "new", name);
        var slate = new WorkerSlate(_disk, path, e => Assert.Fail(e.Message), stopping.Token);
        slate.Clear();
        Assert.False(File.Exists(path));
        slate.Write(Token(2, 1));
        Assert.Equal(new AttemptMark(Token(2, 1), "one/cpu:0", "p"), AttemptMark.Parse(name, File.ReadAllBytes(path)));
        slate.Clear();
        Assert.Null(AttemptMark.Parse(name, File.ReadAllBytes(path)));
        slate.Write(Token(3, 1));
        stopping.Cancel();
        Assert.False(File.Exists(path));
        slate.Write(Token(4, 1));
        Assert.False(File.Exists(path));
        // Where nothing can be written the work goes on without.
        var told = 0;
        File.WriteAllText(Path.Combine(_folder, "file"), "");
        var none = new WorkerSlate(_disk, Path.Combine(_folder, "file", "slate"), _ => told++, CancellationToken.None);
        none.Write(Token(2, 1));
        none.Clear();
        Assert.Equal(1, told);
    }

    [Fact]
    public void Slate_TellsAll_AndFitsItsName()
    {
        var line = new byte[AttemptMark.LineLength];
        var token = Token(7, 12) with { Trial = new string('e', 128) + "/99999", Kind = WorkKind.EvaluateBefore };
        foreach (var worker in new[] { "gpu-3/cuda:0", new string('/', 300) + "@-/cpu:0" })
        {
            var slate = AttemptMark.SlateOf(worker, "[::1]:11111@141234567");
            Assert.InRange(slate.Length, 1, 255);
            AttemptMark.WriteTo(line, token);
            var mark = AttemptMark.Parse(slate, line)!;
            Assert.Equal((token, "[::1]:11111@141234567", "[::1]:11111@141234567"), (mark.Token, mark.Process, AttemptMark.ProcessOf(slate)));
            Assert.StartsWith(mark.Worker, worker, StringComparison.Ordinal);
        }
        Assert.All(["", "Gradient 1 2 3", "Gradient x 0 1 1 e/0", "Nothing 0 0 1 1 e/0"], text => Assert.Null(AttemptMark.Parse("y@z", System.Text.Encoding.UTF8.GetBytes(text))));
        Assert.Null(AttemptMark.ProcessOf("0a1b.bin"));
    }

    private static ShardToken Token(long epoch, int attempt) => new(Trial, epoch, WorkKind.Gradient, 2, 0, attempt);

    /// <summary>Each in a process of its own.</summary>
    private void Mark(ShardToken token, string worker, string process = "gone")
    {
        var line = new byte[AttemptMark.LineLength];
        AttemptMark.WriteTo(line, token);
        using var slate = _disk.OpenSlate(Path.Combine(Folders.Begun, AttemptMark.SlateOf(worker, $"{process} {_processes++}")));
        slate.Write(line);
    }

    private SiloFolders Folders => new(_folder);

    private AttemptMarks Marks(IWorkerInventory inventory) => new(_disk, Folders, inventory, Trial);

    private static WorkStatus Done(ShardToken token, string worker) =>
        new(WorkState.Done, new WorkResult { Token = token, ContentSha256 = "x", Weight = 1, Sums = new Dictionary<string, double>(), Statistics = new WorkStatistics { Worker = worker } });

    private static WorkStatus Gradient(ShardToken token, string worker) => new(WorkState.Done, Done(token, worker).Result! with { Blob = new TensorReference("", 4, worker, new byte[4]) });

    /// <summary>Runs a round as in a grain: one turn at a time.</summary>
    private Task RunAsync(Workers workers, WorkRound round)
    {
        var dispatch = new ShardDispatch(workers.Grains, workers, null!, TimeProvider.System, _services.GetRequiredService<AdjointDpmInstruments>(), NullLogger.Instance);
        return Task.Factory.StartNew(() => dispatch.RunAsync(round, TestContext.Current.CancellationToken), TestContext.Current.CancellationToken, TaskCreationOptions.DenyChildAttach, new ConcurrentExclusiveSchedulerPair().ExclusiveScheduler).Unwrap();
    }

    /// <summary>A round of gradients in epoch 3.</summary>
    private WorkRound Round(Workers workers, int attempts, int shards = 1) => new()
    {
        Ledger = new StepLedger(Trial, 3, WorkKind.Gradient, 2, shards),
        Device = DeviceKind.Cpu,
        Rotation = 0,
        Lease = TimeSpan.FromSeconds(60),
        MaxAttempts = attempts,
        Marks = Marks(workers),
        Assign = token => new WorkAssignment { Token = token, SpecJson = "", SpecSha256 = "" },
        Accept = (_, _, _) => { },
        Reissued = (_, _) => { },
    };

    /// <summary>A round of one shard.</summary>
    /// <returns>The attempt that counted.</returns>
    private async Task<int> RunAsync(Workers workers, int attempts, AttemptMarks? marks = null)
    {
        var accepted = 0;
        var round = Round(workers, attempts);
        await RunAsync(workers, round with { Marks = marks ?? round.Marks, Accept = (_, result, _) => accepted = result.Token.Attempt });
        return accepted;
    }

    /// <summary>Workers that do as they are told by a test.</summary>
    private sealed class Workers(params string[] names) : IWorkerInventory
    {
        public Func<string, ShardToken, WorkStatus> Start { get; init; } = (_, _) => new(WorkState.Waiting);

        public Func<string, ShardToken, WorkStatus> Wait { get; init; } = (_, _) => new(WorkState.Waiting);

        public IGrainFactory Grains => FakeGrains.Of((_, key) => new Worker(this, key));

        public IReadOnlyList<string> List(DeviceKind kind) => names;

        public bool HasEnded(string process) => process.StartsWith("gone", StringComparison.Ordinal);
    }

    private sealed class Worker(Workers workers, string name) : IShardWorkerGrain
    {
        public async Task<WorkStatus> StartAsync(WorkAssignment assignment)
        {
            await Task.Yield();
            return workers.Start(name, assignment.Token);
        }

        public async Task<WorkStatus> WaitAsync(ShardToken token, TimeSpan upTo)
        {
            await Task.Yield();
            return workers.Wait(name, token);
        }

        public Task ForgetAsync(ShardToken token) => Task.CompletedTask;

        public Task<WorkerReport> ReportAsync() => throw new NotSupportedException();
    }
}
