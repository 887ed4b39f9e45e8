using System.Reflection;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
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
        marks.Clear();
        Assert.Empty(Directory.GetFiles(_folder));
        await marks.ReadAsync();
        Assert.Equal(1, await RunAsync(fine, attempts: 1, marks));
    }

    [Fact]
    public void Mark_IsThere_FromTheBeginningToTheEnd_AndNotWhenTheSiloStops()
    {
        using var stopping = new CancellationTokenSource();
        var path = Path.Combine(_folder, "new", AttemptMark.NameOf(Token(2, 1), AttemptMark.OwnerOf("one/cpu:0", "p")));
        var ended = 0;
        using (new HeldMark(_disk, path, e => Assert.Fail(e.Message), () => ended++, stopping.Token))
            Assert.True(File.Exists(path));
        Assert.False(File.Exists(path));
        using (new HeldMark(_disk, path, e => Assert.Fail(e.Message), () => ended++, stopping.Token))
        {
            stopping.Cancel();
            Assert.False(File.Exists(path));
        }
        Assert.Equal(2, ended);
        // Where nothing can be written the work goes on without.
        var told = 0;
        File.WriteAllText(Path.Combine(_folder, "file"), "");
        new HeldMark(_disk, Path.Combine(_folder, "file", "mark"), _ => told++, () => ended++, CancellationToken.None).Dispose();
        Assert.Equal((1, 3), (told, ended));
    }

    [Fact]
    public void Mark_NameTellsAll_AndFitsAFile()
    {
        foreach (var worker in new[] { "gpu-3/cuda:0", new string('/', 300) + "@-/cpu:0" })
        {
            var name = AttemptMark.NameOf(Token(7, 12), AttemptMark.OwnerOf(worker, "[::1]:11111@141234567"));
            Assert.InRange(name.Length, 1, 255);
            var mark = AttemptMark.Parse(name)!;
            Assert.True(mark.Is(Token(7, 12)));
            Assert.Equal("[::1]:11111@141234567", mark.Process);
            Assert.StartsWith(mark.Worker, worker, StringComparison.Ordinal);
        }
        Assert.All(["attempt-x@y@z", "0a1b.bin", "attempt-Gradient-1-2-3@y@z"], name => Assert.Null(AttemptMark.Parse(name)));
    }

    private static ShardToken Token(long epoch, int attempt) => new(Trial, epoch, WorkKind.Gradient, 2, 0, attempt);

    private void Mark(ShardToken token, string worker, string process = "gone") => _disk.Mark(Path.Combine(_folder, AttemptMark.NameOf(token, AttemptMark.OwnerOf(worker, process))));

    private AttemptMarks Marks(IWorkerInventory inventory) => new(_disk, inventory, _folder);

    private static WorkStatus Done(ShardToken token, string worker) =>
        new(WorkState.Done, new WorkResult { Token = token, ContentSha256 = "x", Weight = 1, Sums = new Dictionary<string, double>(), Statistics = new WorkStatistics { Worker = worker } });

    /// <summary>A round of one shard in epoch 3.</summary>
    /// <returns>The attempt that counted.</returns>
    private async Task<int> RunAsync(Workers workers, int attempts, AttemptMarks? marks = null)
    {
        var dispatch = new ShardDispatch(workers.Grains, workers, null!, TimeProvider.System, _services.GetRequiredService<AdjointDpmInstruments>(), NullLogger.Instance);
        var accepted = 0;
        await dispatch.RunAsync(new WorkRound
        {
            Ledger = new StepLedger(Trial, 3, WorkKind.Gradient, 2, 1),
            Device = DeviceKind.Cpu,
            Rotation = 0,
            Lease = TimeSpan.FromSeconds(60),
            MaxAttempts = attempts,
            Marks = marks ?? Marks(workers),
            Assign = token => new WorkAssignment { Token = token, SpecJson = "", SpecSha256 = "" },
            Accept = (_, result, _) => accepted = result.Token.Attempt,
            Reissued = (_, _) => { },
        }, TestContext.Current.CancellationToken);
        return accepted;
    }

    /// <summary>Workers that do as they are told by a test.</summary>
    private sealed class Workers(params string[] names) : IWorkerInventory
    {
        public Func<string, ShardToken, WorkStatus> Start { get; init; } = (_, _) => new(WorkState.Waiting);

        public Func<string, ShardToken, WorkStatus> Wait { get; init; } = (_, _) => new(WorkState.Waiting);

        public IGrainFactory Grains
        {
            get
            {
                var grains = DispatchProxy.Create<IGrainFactory, Factory>();
                ((Factory)(object)grains).Workers = this;
                return grains;
            }
        }

        public IReadOnlyList<string> List(DeviceKind kind) => names;

        public bool HasEnded(string process) => process == "gone";
    }

#pragma warning disable CA1852 // The proxy derives from it.
    private class Factory : DispatchProxy
#pragma warning restore CA1852
    {
        internal Workers Workers { get; set; } = null!;

        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => new Worker(Workers, (string)args![0]!);
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
