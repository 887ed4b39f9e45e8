using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Several workers on one device, as far as its memory has room.</summary>
public sealed class DeviceMemoryTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    /// <summary>Two that fit compute side by side; a third that does not waits for one of them.</summary>
    [Fact]
    public async Task WhatFits_ComputesAtOnce_AndWhatDoesNot_Waits()
    {
        using var device = new SharedDevice(budget: 100, workers: 3);
        var (a, b) = (device.Start(0, 60), device.Start(1, 40));
        await device.ComputesAsync(2);
        var c = device.Start(2, 41);
        await device.WaitsAsync(2);
        a.End.Set();
        await a.Done;
        await device.ComputesAsync(2);
        b.End.Set();
        c.End.Set();
        await Task.WhenAll(b.Done, c.Done);
        Assert.Equal(2, device.MostAtOnce);
    }

    [Fact]
    public async Task WorkOfUnknownSize_HasTheDeviceToItself()
    {
        using var device = new SharedDevice(budget: 100, workers: 3);
        var a = device.Start(0, null);
        await device.ComputesAsync(1);
        var b = device.Start(1, 1);
        await device.WaitsAsync(1);
        // Nor does one overtake it.
        var c = device.Start(2, null);
        await device.WaitsAsync(2);
        foreach (var (one, left) in new[] { (a, 1), (b, 1), (c, 0) })
        {
            one.End.Set();
            await one.Done;
            await device.ComputesAsync(left);
        }
        Assert.Equal(1, device.MostAtOnce);
    }

    /// <summary>What a worker keeps between pieces of work counts; it lets go of it for another that would have no room, whether it waits for work or in line.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ModelsThatAreKept_MakeRoomForWorkThatNeedsIt(bool keeperWaitsToo)
    {
        using var device = new SharedDevice(budget: 100, workers: 2);
        var a = device.Start(0, 70, keeps: 50);
        a.End.Set();
        await a.Done;
        Assert.Equal(50, device.HeldBy(0));
        var b = device.Start(1, 30);
        await device.ComputesAsync(1);
        var next = device.Start(1, 120);
        if (keeperWaitsToo)
        {
            var again = device.Start(0, 90);
            await device.WaitsAsync(0);
            again.End.Set();
            b.End.Set();
            await Task.WhenAll(again.Done, b.Done);
        }
        b.End.Set();
        next.End.Set();
        await Task.WhenAll(b.Done, next.Done);
        Assert.Equal(0, device.HeldBy(0));
        Assert.Equal(1, device.MostAtOnce);
    }

    [Fact]
    public async Task WorkThatIsCancelledInLine_LetsTheNextOneIn()
    {
        using var device = new SharedDevice(budget: 100, workers: 3);
        var a = device.Start(0, 60);
        await device.ComputesAsync(1);
        var b = device.Start(1, 90);
        await device.WaitsAsync(1);
        var c = device.Start(2, 30);
        await device.WaitsAsync(2);
        await b.Cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => b.Done);
        await device.ComputesAsync(2);
        a.End.Set();
        c.End.Set();
        await Task.WhenAll(a.Done, c.Done);
    }

    [Fact]
    public void WorkersOfADevice_AreNamedAfterIt()
    {
        var options = new WorkerOptions { ShardsAtOnce = 3 };
        Assert.Equal(["cpu:0", "cpu:0.1", "cpu:0.2"], options.EffectiveDevices);
        options.Devices.Add("cuda:0");
        options.Devices.Add("cuda:1");
        Assert.Equal(["cuda:0", "cuda:0.1", "cuda:0.2", "cuda:1", "cuda:1.1", "cuda:1.2"], options.EffectiveDevices);
        Assert.All(options.EffectiveDevices, device => Assert.Equal(Specs.DeviceKind.Cuda, WorkerInventory.KindOf("silo/" + device)));
        Assert.Equal(["cuda:0", "cuda:1"], options.EffectiveDevices.Select(WorkerOptions.DeviceOf).Distinct());
        Assert.Equal(["cpu:0"], new WorkerOptions().EffectiveDevices);
        Assert.True(Hardware.MemoryOf("cpu:0") > 0);
    }

    /// <summary>Workers with engines that say what they need, and work that ends when it is told to.</summary>
    private sealed class SharedDevice : IDisposable
    {
        private readonly Lock _lock = new();
        private readonly Engine[] _engines;
        private readonly DeviceExecutor[] _workers;
        private readonly int[] _asked;
        private int _computing;

        public SharedDevice(long budget, int workers)
        {
            var memory = new DeviceMemory(budget);
            _engines = new Engine[workers];
            _asked = new int[workers];
            _workers = [.. Enumerable.Range(0, workers).Select(worker => new DeviceExecutor("cpu:0", new Factory(() => _engines[worker] = new Engine()), TimeProvider.System, memory))];
        }

        public int MostAtOnce { get; private set; }

        public long HeldBy(int worker) => _engines[worker].IsDisposed ? 0 : _engines[worker].HeldBytes;

        public (ManualResetEventSlim End, CancellationTokenSource Cancel, Task Done) Start(int worker, long? needs, long keeps = 0)
        {
            var (end, cancel) = (new ManualResetEventSlim(), new CancellationTokenSource());
            var task = new DeviceTask(new("a"), _ =>
            {
                lock (_lock)
                    _asked[worker]++;
                return needs;
            });
            lock (_lock)
                _asked[worker] = 0;
            return (end, cancel, _workers[worker].RunAsync(task, () => Stream.Null, engine =>
            {
                Count(+1);
                var ended = end.Wait(Patience);
                ((Engine)engine).HeldBytes = keeps;
                Count(-1);
                return ended;
            }, cancel.Token));
        }

        public Task ComputesAsync(int workers) => UntilAsync(() => _computing == workers);

        /// <summary>It has asked for room and got none; what was let in before computes.</summary>
        public async Task WaitsAsync(int worker)
        {
            var computing = _computing;
            await UntilAsync(() => _asked[worker] > 0);
            Assert.Equal(computing, _computing);
        }

        public void Dispose()
        {
            foreach (var worker in _workers)
                worker.Dispose();
        }

        private void Count(int change)
        {
            lock (_lock)
                MostAtOnce = Math.Max(MostAtOnce, _computing += change);
        }

        private async Task UntilAsync(Func<bool> holds)
        {
            using var patience = new CancellationTokenSource(Patience);
            while (true)
            {
                lock (_lock)
                    if (holds())
                        return;
                await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, patience.Token);
            }
        }

        private sealed class Factory(Func<IGradientEngine> make) : IGradientEngineFactory
        {
            public IGradientEngine Create(string device) => make();
        }
    }

    private sealed class Engine : IGradientEngine
    {
        public bool IsDisposed { get; private set; }

        public long HeldBytes { get; set; }

        public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken) => throw new NotSupportedException();

        public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken) => throw new NotSupportedException();

        public GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => throw new NotSupportedException();

        public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken) => throw new NotSupportedException();

        public byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => throw new NotSupportedException();

        public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken) => throw new NotSupportedException();

        public bool Spare(TrialPlan plan) => false;

        public void Dispose() => IsDisposed = true;
    }
}
