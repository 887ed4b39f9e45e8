using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Trials.Ranges;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging.Abstractions;
using Orleans.Storage;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>A simulated process with the production classes in it: experiment, trials, worker, tensor store, grain state.</summary>
internal sealed class Silo : IWorkerInventory, IDevices, ILocalSiloDetails
{
    private readonly Dictionary<string, Activation> _activations = [];
    private readonly Dictionary<string, SimDevice> _devices = [];
    private readonly TensorStore _store = new(1 << 20);
    private readonly TensorTransfer _transfer;
    private readonly FileGrainStorage _storage;
    private readonly Background _background;

    public Silo(World world, string name)
    {
        (World, Name) = (world, name);
        Process = $"{name}#{++world.Processes}";
        IsJournaled = world.Journaled;
        var disk = world.Disk.Of(this);
        Disk = disk;
        if (IsJournaled)
        {
            var journaled = new JournaledDisk(disk, world.Folders.Data, $"{name}.{world.Booted++}", world.Time, Turns, Turns, _ => world.Fail(this), segmentBytes: 16_000);
            Disk = journaled;
            Opened = Turns.Start(() => SimDisk.OpenAsync(disk, journaled));
        }
        Grains = new SimGrains(this);
        _background = new Background(new Observed(this));
        _transfer = new TensorTransfer(_store, Grains, this, _background, inlineBytes: world.InlineBytes);
        _storage = new FileGrainStorage(World.Folders.State, world.Time, Disk);
    }

    public World World { get; }

    public string Name { get; }

    /// <summary>No other silo has or had it.</summary>
    public string Process { get; }

    public Turns Turns { get; } = new();

    public IDisk Disk { get; }

    /// <summary>Whether what is written goes through a journal first.</summary>
    public bool IsJournaled { get; }

    /// <summary>Ends when the disk can be used.</summary>
    public Task Opened { get; } = Task.CompletedTask;

    public SimGrains Grains { get; }

    public bool Dead => Turns.Dead;

    /// <summary>Nothing goes in or out before this moment.</summary>
    public long CutUntil { get; set; }

    /// <summary>No turn is taken before this moment, as of a process that was stopped or is out of memory.</summary>
    public long StalledUntil { get; set; }

    public bool HasTurn => Turns.HasNext && World.Time.Now >= StalledUntil;

    public bool IsCut => World.Time.Now < CutUntil;

    /// <summary>The others have given it up, whatever it thinks itself.</summary>
    public bool GivenUp { get; set; }

    public override string ToString() => $"{Name}{(Dead ? " dead" : "")}{(IsCut ? " cut" : "")}{(GivenUp ? " given up" : "")}: {string.Join(", ", _activations.Keys)}";

    public bool HasTrial => _activations.Values.Any(activation => activation.Logic is TrialRun);

    public bool Has(string grain) => _activations.ContainsKey(grain);

    public IReadOnlyList<string> List(DeviceKind kind) => [.. World.Members(this).SelectMany(silo => World.Workers.EffectiveDevices.Select(device => $"{silo.Name}/{device}")).Where(worker => !World.IsCordoned(worker)).Order(StringComparer.Ordinal)];

    public string? ArithmeticOf(string worker) => World.ArithmeticOf(WorkerInventory.SiloOf(worker));

    public bool HasEnded(string process) => World.Members(this).All(silo => silo.Process != process);

    public Task PauseAsync(double least, double most) => Task.Delay(TimeSpan.FromMilliseconds(least + (most - least) * World.Random.NextDouble()), World.Time);

    public async Task<T> RunAsync<T>(string device, DeviceTask task, Func<IDisposable> begin, Func<IGradientEngine, T> work, CancellationToken cancellationToken)
    {
        if (!_devices.TryGetValue(device, out var turns))
            _devices[device] = turns = new SimDevice();
        await turns.EnterAsync(task.Share, cancellationToken);
        var started = World.Time.GetTimestamp();
        try
        {
            if (_devices.Values.Count(other => other.IsBusy) > 1)
                World.Count("shards computed beside another on a device");
            using var begun = begin();
            await World.ReachedAsync(Phase.Computing, this);
            var milliseconds = 5 + 25 * World.Random.NextDouble();
            if (World.Chance(World.Plan.Slow))
                (milliseconds, _) = (milliseconds * 40, World.Count("slow shards"));
            if (World.Chance(World.Plan.Stuck))
                (milliseconds, _) = (milliseconds + 100_000, World.Count("stuck shards"));
            await Task.Delay(World.Plan.Long + TimeSpan.FromMilliseconds(milliseconds), World.Time, cancellationToken);
            using var engine = new SimEngine(World, World.ArithmeticOf(Name));
            return work(engine);
        }
        finally
        {
            turns.Exit(task.Share, World.Time.GetElapsedTime(started));
        }
    }

    public async Task FinishAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken)
    {
        await PauseAsync(0.5, 5);
        await work(cancellationToken);
    }

    /// <summary>The activation of a grain here, made when it is not.</summary>
    public Activation Activate(string grain) => _activations.TryGetValue(grain, out var present) ? present : _activations[grain] = Make(grain);

    public void Remove(Activation activation)
    {
        if (_activations.GetValueOrDefault(activation.Grain) == activation)
            _activations.Remove(activation.Grain);
        World.Forget(activation.Grain, this);
    }

    private Activation Make(string grain)
    {
        var activation = new Activation(this, grain);
        var (kind, key) = (grain[..grain.IndexOf('/', StringComparison.Ordinal)], activation.Key);
        switch (kind)
        {
            case "experiment":
                var experiment = State<ExperimentState>(grain);
                var run = new ExperimentRun(activation, experiment, World.Folders, Disk, new FolderArtifacts(World.Folders, Disk), World.Time, World.Instruments, NullLogger.Instance);
                activation.Begin(run, async () =>
                {
                    await experiment.ReadStateAsync();
                    await run.ActivateAsync();
                });
                break;
            case "trial":
                World.Begins(grain);
                var trial = State<TrialState>(grain);
                var coordinator = new TrialRun(activation, trial, World.Folders, Disk, new FolderArtifacts(World.Folders, Disk), this, _transfer, _background, World.Time, World.Instruments, NullLogger.Instance, World.RangeBytes, CancellationToken.None);
                activation.Begin(coordinator, async () =>
                {
                    await trial.ReadStateAsync();
                    await coordinator.ActivateAsync();
                });
                break;
            case "range":
                World.Tally.Add("ranges activated");
                activation.Begin(new ParameterRange(activation, _transfer, Disk, World.Folders, _background, World.Time, World.Instruments), () => Task.CompletedTask);
                break;
            case "worker":
                activation.Begin(new ShardWorker(activation, this, _transfer, new FolderArtifacts(World.Folders, Disk), Disk, _background, World.Folders, Process, World.Time, World.Instruments, NullLogger.Instance, CancellationToken.None), () => Task.CompletedTask);
                break;
            case "directory":
                var directory = State<DirectoryState>(grain);
                activation.Begin(new ExperimentDirectoryGrain(directory), directory.ReadStateAsync);
                break;
            default:
                throw new ArgumentException(key);
        }
        return activation;
    }

    private SimState<T> State<T>(string grain) where T : new() => new(World.IgnoresETags, _storage, grain[..grain.IndexOf('/', StringComparison.Ordinal)], GrainId.Parse(grain, null));

    string ILocalSiloDetails.Name => Name;

    string ILocalSiloDetails.ClusterId => "simulation";

    string ILocalSiloDetails.DnsHostName => Name;

    SiloAddress ILocalSiloDetails.SiloAddress => SiloAddress.Zero;

    SiloAddress ILocalSiloDetails.GatewayAddress => SiloAddress.Zero;

    /// <summary>Background work runs between the turns of its silo, and is where a reduction can be met.</summary>
    private sealed class Observed(Silo silo) : TaskScheduler
    {
        protected override void QueueTask(Task task) => silo.Turns.Start(async () =>
        {
            await silo.World.ReachedAsync(Phase.Reducing, silo);
            TryExecuteTask(task);
        });

        protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) => false;

        protected override IEnumerable<Task> GetScheduledTasks() => [];
    }
}

/// <summary>An activation in a simulated silo.</summary>
internal sealed class Activation(Silo silo, string grain) : IActivation
{
    private readonly Gate _turn = new();
    private Task _ready = Task.CompletedTask;
    private bool _ended;

    public string Grain => grain;

    public string Key { get; } = grain[(grain.IndexOf('/', StringComparison.Ordinal) + 1)..];

    public IGrainFactory Grains => silo.Grains;

    public object? Logic { get; private set; }

    public void Begin(object logic, Func<Task> activate)
    {
        Logic = logic;
        _ready = silo.Turns.Start(async () =>
        {
            await silo.Opened;
            await activate();
        });
    }

    /// <summary>Runs a call, after the activation has begun; one at a time unless it may interleave.</summary>
    public async Task<T> RunAsync<TLogic, T>(Func<TLogic, Task<T>> call, bool interleave)
    {
        try
        {
            await _ready;
        }
        catch
        {
            Deactivate();
            throw;
        }
        if (!interleave)
            await _turn.EnterAsync();
        try
        {
            return await call((TLogic)Logic!);
        }
        catch (InconsistentStateException)
        {
            // As the runtime does.
            Deactivate();
            throw;
        }
        finally
        {
            if (!interleave)
                _turn.Exit();
        }
    }

    public IDisposable Every(TimeSpan due, TimeSpan period, Func<Task> tick)
    {
        var stop = new CancellationTokenSource();
        silo.Turns.Start(async () =>
        {
            await Task.Delay(due, silo.World.Time, stop.Token);
            while (!stop.IsCancellationRequested && !_ended)
            {
                try
                {
                    await tick();
                }
                catch (Exception e) when (e is not OperationCanceledException)
                {
                    // As the runtime does: a failed tick is logged, and the next one comes.
                }
                await Task.Delay(period, silo.World.Time, stop.Token);
            }
        });
        return stop;
    }

    public void Deactivate()
    {
        _ended = true;
        silo.Remove(this);
    }
}

/// <summary>Grain state as the runtime hands it to a grain, over the production storage.</summary>
internal sealed class SimState<T>(bool ignoresETags, FileGrainStorage storage, string name, GrainId id) : IPersistentState<T> where T : new()
{
    private readonly GrainState<T> _state = new(new T());

    public T State { get => _state.State!; set => _state.State = value; }

    public string Etag => _state.ETag!;

    public bool RecordExists => _state.RecordExists;

    public Task ReadStateAsync() => storage.ReadStateAsync(name, id, _state);

    public async Task WriteStateAsync()
    {
        if (ignoresETags)
        {
            var stored = new GrainState<T>(new T());
            await storage.ReadStateAsync(name, id, stored);
            _state.ETag = stored.ETag;
        }
        await storage.WriteStateAsync(name, id, _state);
    }

    public Task ClearStateAsync() => storage.ClearStateAsync(name, id, _state);
}

/// <summary>The closed form; the one file that it is given by name lies on the simulated disk.</summary>
internal sealed class SimEngine(World world, string? arithmetic) : IGradientEngine
{
    /// <summary>The arithmetic that rounds the other way.</summary>
    public const string Rounding = "rounding";

    private readonly ClosedFormEngine _engine = new(new EngineScript { Parameters = 8 }, "");

    public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken) => _engine.Prepare(plan, cancellationToken) with { Arithmetic = arithmetic };

    public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken)
    {
        if (!plan.Lean && world.IsMemoryShort())
            throw new NativeException("injected: CUDA out of memory");
        world.Computes(parameters);
        var gradient = _engine.Differentiate(plan, parameters, step, shard, cancellationToken);
        // Other last bits, so that a sum of several kinds is found.
        var numbers = MemoryMarshal.Cast<byte, float>(gradient.Gradient.AsSpan());
        foreach (ref var number in numbers)
        {
            if (plan.Lean)
                number = MathF.BitIncrement(number);
            if (arithmetic == Rounding)
                number = MathF.BitDecrement(number);
        }
        return gradient;
    }

    public GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => _engine.Prove(plan, parameters, cancellationToken);

    public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken) => _engine.Evaluate(plan, parameters, firstSample, samples, cancellationToken);

    public byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => parameters.Bytes[..4].ToArray();

    public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken)
    {
        File.WriteAllBytes(Path.Combine(folder, "metrics.jsonl"), world.Disk.Read(metricsFile)!);
        File.WriteAllBytes(Path.Combine(folder, "parameters.bin"), after.Bytes.ToArray());
    }

    public bool Spare(TrialPlan plan) => _engine.Spare(plan);

    public void Dispose() => _engine.Dispose();
}
