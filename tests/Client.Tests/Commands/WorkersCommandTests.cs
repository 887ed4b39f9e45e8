using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class WorkersCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task List_Table()
    {
        SomeOfEach();
        await Verify("workers", 0, "workers");
    }

    [Fact]
    public async Task List_Json()
    {
        SomeOfEach();
        await Verify("workers --json", 0, "workers-json");
    }

    [Fact]
    public async Task List_OfUnlikeMachines_SaysWhichRoundAlike()
    {
        _adpm.Cluster.Workers.AddRange(new[] { ("a", "0123456789ab"), ("b", "ba9876543210"), ("c", "0123456789ab") }.Select(silo => Samples.Worker($"{silo.Item1}/cpu:0", false) with { Arithmetic = silo.Item2 }));
        Assert.Equal(0, await _adpm.RunAsync("workers"));
        Assert.Contains("These workers round differently: 0123456789ab: a/cpu:0, c/cpu:0; ba9876543210: b/cpu:0. A trial stays with those of one kind.", _adpm.Error.ToString().ReplaceLineEndings(" "), StringComparison.Ordinal);
        _adpm.Cluster.Workers.RemoveAt(1);
        var said = _adpm.Error.ToString();
        Assert.Equal(0, await _adpm.RunAsync("workers"));
        Assert.Equal(said, _adpm.Error.ToString());
    }

    [Fact]
    public Task List_Empty_SaysWhatToDo() => Verify("workers", 0, "workers-empty");

    [Fact]
    public async Task Cordon_SaysWhatTheWorkerStillHolds()
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false, Samples.Shard(3, 1), Samples.Shard(3, 4, WorkProgress.Waiting)), Samples.Worker("silo-1/cpu:0", false), Samples.Worker("silo-2/cpu:0", false)]);
        await Verify("workers cordon silo-0/cpu:0 silo-1/cpu:0", 0, "workers-cordon");
        Assert.Equal([true, true, false], _adpm.Cluster.Workers.Select(worker => worker.Cordoned));
    }

    [Fact]
    public async Task CordonOfTheLast_SaysThatExperimentsWait_AndUncordonUndoesIt()
    {
        _adpm.Cluster.Workers.Add(Samples.Worker("silo-0/cpu:0", false));
        Assert.Equal(0, await _adpm.RunAsync("workers cordon silo-0/cpu:0 --json"));
        Assert.Equal("Every worker of the cluster is cordoned: experiments wait until one is uncordoned.\n", _adpm.Error.ToString());
        Assert.Equal(0, await _adpm.RunAsync("workers uncordon silo-0/cpu:0"));
        Assert.EndsWith("silo-0/cpu:0 gets shards.\n", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.False(_adpm.Cluster.Workers[0].Cordoned);
    }

    [Fact]
    public async Task WhoeverWaits_IsToldThatEveryWorkerIsCordoned()
    {
        _adpm.Cluster.Experiments["stylize-0a1b2c3d"] = Samples.Ended();
        _adpm.Cluster.Events.AddRange(Samples.Events());
        _adpm.Cluster.Workers.Add(Samples.Worker("silo-0/cpu:0", true));
        Assert.Equal(0, await _adpm.RunAsync("watch stylize"));
        Assert.StartsWith("Every worker of the cluster is cordoned: experiments wait until one is uncordoned. See 'adpm workers', and 'adpm workers uncordon NAME'.\n", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cordon")]
    [InlineData("drain")]
    public async Task UnknownName_ChangesNothing_AndNamesTheNearest(string what)
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false), Samples.Worker("gpu-7/cuda:0", false)]);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"workers {what} silo-0/cpu:0 sillo-0/cpu:0 gpu-7 other"));
        Assert.Equal(
            "error: There is no worker 'sillo-0/cpu:0'. Did you mean 'silo-0/cpu:0'? There is no worker 'gpu-7'. Did you mean 'gpu-7/cuda:0'? There is no worker 'other'.\nNothing was changed. List the workers with 'adpm workers'.\n",
            _adpm.Error.ToString());
        Assert.All(_adpm.Cluster.Workers, worker => Assert.False(worker.Cordoned));
    }

    [Fact]
    public async Task Drain_WaitsUntilNothingIsHeld()
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false, Samples.Shard(3, 1), Samples.Shard(3, 4, WorkProgress.Waiting)), Samples.Worker("silo-1/cpu:0", false)]);
        var looks = 0;
        _adpm.Cluster.BeforeWorkers = () => _adpm.Cluster.Workers[0] = Samples.Worker(_adpm.Cluster.Workers[0] with
        {
            // A lease that was under way arrives when the others have ended.
            Work = ++looks switch { 1 or 2 => _adpm.Cluster.Workers[0].Work, 3 => [], 4 => [Samples.Shard(3, 6, WorkProgress.Delivering)], _ => [] },
        });
        Assert.Equal(0, await WhileTimePasses(_adpm.RunAsync("workers drain silo-0/cpu:0")));
        Assert.Equal(6, looks);
        Verified.Equal(_adpm.Text("workers drain silo-0/cpu:0", 0), "workers-drain");
    }

    [Fact]
    public async Task Drain_ThatTakesTooLong_Exits1_AndStaysCordoned()
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false, Samples.Shard(0, 2, kind: "evaluateBefore")), Samples.Worker("silo-1/cpu:0", false) with { State = WorkerState.Silent }]);
        Assert.Equal(ExitCodes.Failed, await WhileTimePasses(_adpm.RunAsync("workers drain silo-0/cpu:0 silo-1/cpu:0 --timeout 90")));
        Assert.Equal(
            "silo-0/cpu:0 holds stylize-0a1b2c3d/0 evaluation before, part 2; silo-1/cpu:0 does not answer\n"
            + "error: Not drained after 1m30s: silo-0/cpu:0 holds stylize-0a1b2c3d/0 evaluation before, part 2; silo-1/cpu:0 does not answer.\nThey stay cordoned. The same command waits on.\n",
            _adpm.Error.ToString());
        Assert.All(_adpm.Cluster.Workers, worker => Assert.True(worker.Cordoned));
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("workers drain silo-0/cpu:0 --timeout 0"));
    }

    [Fact]
    public async Task Drain_Interrupted_Exits130_AndSaysHowToGoOn()
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false, Samples.Shard(3, 1)), Samples.Worker("silo-1/cpu:0", false)]);
        var running = _adpm.RunAsync("workers drain silo-0/cpu:0 --gateway a:1");
        _adpm.Interruptions.Interrupt();
        Assert.Equal(ExitCodes.Interrupted, await running);
        Assert.EndsWith("They stay cordoned. Wait again with: adpm workers drain silo-0/cpu:0 --gateway a:1\n", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Drain_UncordonedByAnother_DoesNotWaitForEver()
    {
        _adpm.Cluster.Workers.AddRange([Samples.Worker("silo-0/cpu:0", false, Samples.Shard(3, 1)), Samples.Worker("silo-1/cpu:0", false)]);
        var looks = 0;
        _adpm.Cluster.BeforeWorkers = () => _adpm.Cluster.Workers[0] = _adpm.Cluster.Workers[0] with { Cordoned = ++looks < 3 };
        Assert.Equal(ExitCodes.Failed, await WhileTimePasses(_adpm.RunAsync("workers drain silo-0/cpu:0")));
        Assert.Contains("Somebody has uncordoned silo-0/cpu:0 meanwhile.", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    private void SomeOfEach() => _adpm.Cluster.Workers.AddRange(
    [
        Samples.Worker("gpu-0/cuda:0", false, Samples.Shard(3, 0), Samples.Shard(3, 2, WorkProgress.Waiting)),
        Samples.Worker("gpu-0/cuda:1", false) with { LastFailure = "libtorch: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 79.1 GiB.", LastFailureAt = Samples.Noon.AddMinutes(-5) },
        Samples.Worker("gpu-1/cuda:0", true, Samples.Shard(3, 5, WorkProgress.Delivering)),
        Samples.Worker("gpu-1/cuda:1", true),
        Samples.Worker("gpu-2/cuda:0", true) with { State = WorkerState.Absent, ShardsDone = 0 },
        Samples.Worker("gpu-3/cuda:0", false) with { State = WorkerState.Silent, ShardsDone = 0 },
    ]);

    private async Task<int> WhileTimePasses(Task<int> running)
    {
        while (!running.IsCompleted)
        {
            _adpm.Time.Advance(TimeSpan.FromMilliseconds(500));
            await Task.Yield();
        }
        return await running;
    }

    private async Task Verify(string line, int exitCode, string name)
    {
        Assert.Equal(exitCode, await _adpm.RunAsync(line));
        Verified.Equal(_adpm.Text(line, exitCode), name);
    }
}
