using System.Globalization;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>A cluster on one thread: silos, their network, their disk, their clock. Equal seeds and plans give equal runs, turn by turn.</summary>
internal sealed class World : IDisposable
{
    /// <summary>What a coordinator does that need not wait for its disk.</summary>
    public const string LeasedAhead = "shards leased before the step before was committed";

    private static readonly TimeSpan ResponseTimeout = TimeSpan.FromSeconds(10);

    private readonly Dictionary<string, Silo> _silos = [];
    private readonly Dictionary<string, Silo> _placed = [];
    private readonly Dictionary<Phase, int> _reached = [];
    private readonly Dictionary<string, object> _lastAnswer = [];
    private readonly Dictionary<(Silo From, string Grain), long> _arrived = [];
    private readonly Meters _meters = new();
    private readonly Silo _client;
    private int _stale;
    private int _duplicates;
    private long _sent;

    public World(int seed, FaultPlan plan, int silos, string folder, bool journaled = false, int inlineBytes = TensorReference.InlineLimit)
    {
        (Random, Plan, Journaled, InlineBytes) = (new Random(seed), plan, journaled, inlineBytes);
        Folders = new SiloFolders(folder);
        Disk = new SimDisk(this);
        Instruments = new AdjointDpmInstruments(_meters);
        _client = new Silo(this, "client");
        for (var i = 0; i < silos; i++)
            Boot($"silo-{i}");
        for (var i = 0; i < plan.Cordons; i++)
            After(0, plan.Until.TotalMilliseconds / 4, CordonOne);
        // Nobody may wait for a person to uncordon.
        if (plan.Cordons > 0)
            After(plan.Until.TotalMilliseconds, 0, _cordoned.Clear);

        void CordonOne()
        {
            var worker = $"silo-{Random.Next(silos)}/cpu:0";
            Tally.Add(_cordoned.Remove(worker) ? "workers uncordoned" : _cordoned.Add(worker) && _cordoned.Count == silos ? "all workers cordoned" : "workers cordoned");
        }
    }

    public Random Random { get; }

    public FaultPlan Plan { get; }

    /// <summary>Whether silos write through journals; then the power is cut when all are killed at once, and when the run is over.</summary>
    public bool Journaled { get; }

    /// <summary>Up to here tensors travel with the message that names them.</summary>
    public int InlineBytes { get; }

    /// <summary>Version that a worker last computed with, by the array that it lay in.</summary>
    private readonly ConditionalWeakTable<byte[], string> _versions = [];

    /// <summary>A worker computes with a version.</summary>
    public void Computes(ParameterVersion version)
    {
        if (!MemoryMarshal.TryGetArray(version.Bytes, out var memory))
            return;
        if (_versions.TryGetValue(memory.Array!, out var before) && before != version.Sha256)
            Tally.Add("versions in memory that was used before");
        _versions.AddOrUpdate(memory.Array!, version.Sha256);
    }

    /// <summary>Silos with journals so far.</summary>
    public int Booted { get; set; }

    /// <summary>Silos so far.</summary>
    public int Processes { get; set; }

    /// <summary>Workers that get no shards, as far as all silos know.</summary>
    private readonly HashSet<string> _cordoned = [];

    /// <summary>Silo that writes the state of a step.</summary>
    public Silo? StepUnderWay { get; set; }

    private int _gradients;

    /// <summary>Whether a worker has no room for what it is to compute.</summary>
    public bool IsMemoryShort() => Plan.MemoryShort.Contains(++_gradients) && Count("workers out of memory");

    /// <summary>Which last bits the silos' devices give, by number of the silo; empty when nobody tells.</summary>
    public IReadOnlyList<string> Arithmetic { get; init; } = [];

    public string? ArithmeticOf(string silo) => Arithmetic.Count == 0 || silo == "client" ? null : Arithmetic[int.Parse(silo["silo-".Length..], CultureInfo.InvariantCulture)];

    public bool IsCordoned(string worker) => _cordoned.Contains(worker);

    /// <summary>What each silo gives to workers.</summary>
    public WorkerOptions Workers { get; init; } = new();

    /// <summary>Attempts that the silo which begins them dies of.</summary>
    public Func<ShardToken, bool> Poison { get; init; } = _ => false;

    public VirtualTime Time { get; } = new();

    public SiloFolders Folders { get; }

    public SimDisk Disk { get; init; }

    /// <summary>A run that takes longer, in its own time, does not end.</summary>
    public TimeSpan Limit { get; init; } = TimeSpan.FromMinutes(20);

    /// <summary>Trained parameters above this many bytes are owned in ranges by several silos.</summary>
    public int RangeBytes { get; init; } = 1 << 20;

    public AdjointDpmInstruments Instruments { get; }

    public Tally Tally { get; } = new();

    /// <summary>Broken on purpose: state is written unconditionally.</summary>
    public bool IgnoresETags { get; init; }

    /// <summary>Broken on purpose: results are taken for those of the attempt that was asked about.</summary>
    public bool IgnoresTokens { get; init; }

    /// <summary>The last messages and faults, for whoever looks into one seed.</summary>
    public Queue<string> Trace { get; } = new();

    public long TurnsTaken { get; private set; }

    private bool Calm => Time.Now >= Plan.Until.Ticks;

    public bool Chance(double probability, bool always = false) => probability > 0 && (always || !Calm) && Random.NextDouble() < probability;

    public bool Count(string what)
    {
        Tally.Add(what);
        return true;
    }

    /// <summary>The silos that a silo takes for alive.</summary>
    public IEnumerable<Silo> Members(Silo seenBy) => _silos.Values.Where(silo => silo == seenBy || (!silo.GivenUp && !silo.Dead));

    /// <summary>A coordinator begins; a former one may not know yet that it is none any more.</summary>
    public void Begins(string grain)
    {
        if (_silos.Values.Any(silo => !silo.Dead && silo.Has(grain)))
            Tally.Add("two coordinators at once");
    }

    public void Forget(string grain, Silo silo)
    {
        if (_placed.GetValueOrDefault(grain) == silo)
            _placed.Remove(grain);
    }

    /// <summary>Submits, follows to the end, lets what is still under way do its worst, and returns what a fresh activation reads.</summary>
    public ExperimentSnapshot Run(string id, ExperimentSubmission submission)
    {
        var ended = _client.Turns.Start(() => FollowAsync(id, submission));
        Turn(() => ended.IsCompleted, Limit);
        ended.GetAwaiter().GetResult();
        Turn(() => false, TimeSpan.FromTicks(Time.Now) + TimeSpan.FromMinutes(2), mayEnd: true);
        foreach (var silo in _silos.Values)
            silo.Turns.Kill();
        _silos.Clear();
        _placed.Clear();
        if (Journaled)
            Disk.LosePower();
        Boot("auditor");
        var snapshot = _client.Turns.Start(() => CallAsync<ExperimentRun, ExperimentSnapshot?>(_client, "experiment/" + id, run => Task.FromResult(run.Snapshot())));
        Turn(() => snapshot.IsCompleted, TimeSpan.MaxValue);
        return snapshot.GetAwaiter().GetResult()!;
    }

    /// <summary>A message and its answer. What can go wrong with messages goes wrong here.</summary>
    public async Task<T> CallAsync<TLogic, T>(Silo from, string grain, Func<TLogic, Task<T>> call, bool interleave = true, bool leases = false, TimeSpan? timeout = null)
    {
        if (from == _client)
            return await DeliverAsync(from, grain, call, interleave);
        Note($"{from.Name} calls {grain}");
        if (Chance(Plan.Lost))
        {
            Tally.Add("messages lost");
            await TimeOutAsync(grain);
        }
        if (leases && from == StepUnderWay)
            Tally.Add(LeasedAhead);
        if (leases)
            await ReachedAsync(Phase.Leased, from);
        if (Chance(Plan.Duplicated) || Spend(ref _duplicates))
        {
            Tally.Add("messages sent twice");
            Ignore(DeliverLateAsync(from, grain, call, interleave));
        }
        if (Chance(Plan.Delayed))
        {
            Tally.Add("messages delayed");
            await from.PauseAsync(200, 4000);
        }
        var answer = await DeliverAsync(from, grain, call, interleave, timeout);
        if (Chance(Plan.Lost))
        {
            Tally.Add("answers lost");
            await TimeOutAsync(grain);
        }
        if (answer is WorkStatus { State: WorkState.Done } status)
        {
            await ReachedAsync(Phase.Contributed, from);
            answer = (T)(object)Late(grain, status);
        }
        return answer;
    }

    /// <summary>An owner of a range has much to bring over, or a slow disk.</summary>
    public Task OwnerMayBeSlowAsync() => Chance(Plan.SlowOwner) && Count("slow owners") ? Task.Delay(TimeSpan.FromSeconds(11 + 30 * Random.NextDouble()), Time) : Task.CompletedTask;

    /// <summary>A phase of a step is reached in a silo; what the plan has for it happens, and when that ends the silo, nothing follows.</summary>
    public Task ReachedAsync(Phase phase, Silo silo)
    {
        var times = _reached[phase] = _reached.GetValueOrDefault(phase) + 1;
        foreach (var (_, _, fault) in Plan.AtPhases.Where(planned => planned.Phase == phase && planned.Nth == times))
            if (!Calm)
                Happen(fault, phase);
        return silo.Dead ? new TaskCompletionSource().Task : silo.StalledUntil > Time.Now ? NextTurn() : Task.CompletedTask;

        static async Task NextTurn() => await Task.Yield();
    }

    public void Dispose()
    {
        Instruments.Dispose();
        _meters.Dispose();
    }

    private void Happen(Fault fault, Phase phase)
    {
        var coordinators = _silos.Values.Where(silo => silo.HasTrial && !silo.Dead).ToList();
        var others = _silos.Values.Where(silo => !silo.HasTrial && !silo.Dead).ToList();
        Tally.Add($"{fault} at {phase}");
        Note($"{fault} at {phase}");
        switch (fault)
        {
            case Fault.KillWorker:
                Kill(Pick(others.Count > 0 ? others : coordinators));
                break;
            case Fault.KillCoordinator:
                Kill(Pick(coordinators.Count > 0 ? coordinators : others));
                break;
            case Fault.KillAll:
                foreach (var silo in _silos.Values.ToArray())
                    Kill(silo);
                if (Journaled)
                {
                    Tally.Add("power cuts");
                    Disk.LosePower();
                }
                break;
            case Fault.Storage:
                Disk.FailNext += Random.Next(1, 3);
                break;
            case Fault.Cut:
                Cut(Pick(Random.Next(2) == 0 || coordinators.Count == 0 ? [.. _silos.Values.Where(silo => !silo.Dead)] : coordinators));
                break;
            case Fault.Stall:
                Stall(Pick(Random.Next(3) == 0 || coordinators.Count == 0 ? [.. _silos.Values.Where(silo => !silo.Dead)] : coordinators));
                break;
            case Fault.Duplicate:
                _duplicates += 10;
                break;
            case Fault.LateStale:
                _stale += 4;
                break;
        }
    }

    /// <summary>A silo's journal cannot be written: it ends itself.</summary>
    public void Fail(Silo silo)
    {
        Tally.Add("silos that ended themselves");
        Kill(silo);
    }

    /// <summary>A worker begins an attempt.</summary>
    public void Begun(AttemptMark mark, Silo silo)
    {
        if (!Poison(mark.Token))
            return;
        Tally.Add("silos poisoned");
        Kill(silo);
    }

    private void Note(string what)
    {
        Trace.Enqueue(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{TimeSpan.FromTicks(Time.Now).TotalSeconds:f4} {what}"));
        if (Trace.Count > 400)
            Trace.Dequeue();
    }

    private Silo? Pick(List<Silo> silos) => silos.Count == 0 ? null : silos[Random.Next(silos.Count)];

    private void Boot(string name)
    {
        var silo = _silos[name] = new Silo(this, name);
        silo.Turns.Start(() => WatchAsync(silo));
    }

    /// <summary>kill -9: nothing more runs; the others learn of it a little later, and it is started again later still.</summary>
    private void Kill(Silo? silo)
    {
        if (silo is null || silo.Dead)
            return;
        Tally.Add("silos killed");
        Note($"{silo.Name} is killed");
        silo.Turns.Kill();
        After(100, 1500, () => GiveUp(silo));
        After(1000, 6000, () => Boot(silo.Name));
    }

    /// <summary>Nothing gets in or out for a while. The others give it up; it goes on working, and for some time after it is back, until it learns that it was given up.</summary>
    private void Cut(Silo? silo)
    {
        if (silo is null || silo.IsCut)
            return;
        Tally.Add("silos cut off");
        Note($"{silo.Name} is cut off");
        silo.CutUntil = AwayFor(silo);
    }

    /// <summary>A process that stands still for a while, is given up, and goes on where it stood, until it learns that it was given up.</summary>
    private void Stall(Silo? silo)
    {
        if (silo is null || silo.StalledUntil > Time.Now)
            return;
        Tally.Add("silos stalled");
        Note($"{silo.Name} stands still");
        silo.StalledUntil = AwayFor(silo);
        // Time goes on to then even when nobody else has anything to do.
        After(TimeSpan.FromTicks(silo.StalledUntil - Time.Now).TotalMilliseconds, 0, () => { });
    }

    private long AwayFor(Silo silo)
    {
        var milliseconds = 500 + 8000 * Random.NextDouble();
        After(1000, 3000, () =>
        {
            if (!silo.Dead)
                GiveUp(silo);
        });
        After(milliseconds + 500, milliseconds + 4000, () =>
        {
            if (silo.GivenUp && !silo.Dead)
                Kill(silo);
        });
        return Time.Now + TimeSpan.FromMilliseconds(milliseconds).Ticks;
    }

    private void GiveUp(Silo silo)
    {
        silo.GivenUp = true;
        Note($"{silo.Name} is given up");
        foreach (var grain in _placed.Where(pair => pair.Value == silo).Select(pair => pair.Key).ToArray())
        {
            _placed.Remove(grain);
            if (grain.StartsWith("trial/", StringComparison.Ordinal))
                Tally.Add("takeovers");
        }
    }

    private void After(double least, double most, Action action) => _client.Turns.Start(async () =>
    {
        await _client.PauseAsync(least, Math.Max(least, most));
        action();
    });

    private async Task<T> DeliverAsync<TLogic, T>(Silo from, string grain, Func<TLogic, Task<T>> call, bool interleave, TimeSpan? timeout = null)
    {
        var order = ++_sent;
        await from.PauseAsync(0.1, 5);
        if (_arrived.GetValueOrDefault((from, grain)) is var newest && newest > order)
            Tally.Add("messages overtaken by later ones");
        _arrived[(from, grain)] = Math.Max(newest, order);
        var target = Place(from, grain);
        if (target is null || ((target.IsCut || from.IsCut) && target != from))
            await TimeOutAsync(grain);
        var answer = await target!.Turns.Start(() => target.Activate(grain).RunAsync(call, interleave)).WaitAsync(timeout ?? ResponseTimeout, Time);
        await from.PauseAsync(0.1, 5);
        if ((target.IsCut || from.IsCut) && target != from)
            await TimeOutAsync(grain);
        return answer;
    }

    private async Task DeliverLateAsync<TLogic, T>(Silo from, string grain, Func<TLogic, Task<T>> call, bool interleave)
    {
        await from.PauseAsync(0, 3000);
        await DeliverAsync(from, grain, call, interleave);
    }

    private async Task TimeOutAsync(string grain)
    {
        // At once when the connection breaks, at the latest after the response timeout.
        await Task.Delay(Random.Next(2) == 0 ? TimeSpan.FromMilliseconds(50) : ResponseTimeout, Time);
        throw new TimeoutException($"injected: no answer from {grain}");
    }

    /// <summary>An answer that comes in the place of the one that was asked for: the result of an earlier attempt at other work.</summary>
    private WorkStatus Late(string grain, WorkStatus status)
    {
        var earlier = _lastAnswer.GetValueOrDefault(grain) as WorkStatus;
        _lastAnswer[grain] = status;
        if (earlier is null || earlier.Result!.Token == status.Result!.Token || !Spend(ref _stale))
            return status;
        Tally.Add("late results in place of others");
        return IgnoresTokens ? earlier with { Result = earlier.Result with { Token = status.Result.Token } } : earlier;
    }

    private static bool Spend(ref int left)
    {
        if (left <= 0)
            return false;
        left--;
        return true;
    }

    /// <summary>Workers where their name says; others where they are, else on any silo that the caller takes for alive.</summary>
    private Silo? Place(Silo from, string grain)
    {
        if (grain.StartsWith("worker/", StringComparison.Ordinal) || grain.StartsWith("range/", StringComparison.Ordinal))
            return _silos.GetValueOrDefault(grain.Split('/')[1]) is { GivenUp: false } named ? named : throw new SiloUnavailableException($"injected: {grain} is on no member");
        // A silo that was given up does not know it, and keeps what it has.
        if (from.GivenUp && from.IsCut)
            return from;
        if (_placed.TryGetValue(grain, out var placed))
            return placed;
        var members = _silos.Values.Where(silo => !silo.GivenUp).ToList();
        return members.Count == 0 ? null : _placed[grain] = members[Random.Next(members.Count)];
    }

    /// <summary>As the watchdog of every silo does.</summary>
    private static async Task WatchAsync(Silo silo)
    {
        while (true)
        {
            try
            {
                var directory = silo.Grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key);
                foreach (var experiment in await directory.ListAsync(0, 200))
                    if (!TrialTable.IsEnded(experiment.State))
                        await silo.Grains.GetGrain<ITrialReportsGrain>(experiment.Id).PokeAsync();
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // The next round asks again.
            }
            await silo.PauseAsync(2000, 6000);
        }
    }

    private async Task FollowAsync(string id, ExperimentSubmission submission)
    {
        for (var accepted = false; ;)
        {
            try
            {
                if (!accepted)
                    await CallAsync<ExperimentRun, SubmitReceipt>(_client, "experiment/" + id, run => run.SubmitAsync(submission));
                accepted = true;
                if (await CallAsync<ExperimentRun, ExperimentSnapshot?>(_client, "experiment/" + id, run => Task.FromResult(run.Snapshot())) is { } snapshot && TrialTable.IsEnded(snapshot.Summary.State))
                    return;
            }
            catch (Exception e) when (e is TimeoutException or IOException or SiloUnavailableException or Orleans.Storage.InconsistentStateException)
            {
                // As a client does: ask again.
            }
            await Task.Delay(TimeSpan.FromMilliseconds(500), Time);
        }
    }

    /// <summary>Takes turns, of any silo that has one, until the condition holds; time goes on only when nobody has a turn.</summary>
    private void Turn(Func<bool> until, TimeSpan limit, bool mayEnd = false)
    {
        var ready = new List<Silo>();
        while (!until())
        {
            ready.Clear();
            if (_client.Turns.HasNext)
                ready.Add(_client);
            ready.AddRange(_silos.Values.Where(silo => silo.HasTurn));
            if (ready.Count > 0)
            {
                TurnsTaken++;
                if (Plan.KillsAtTurn.Contains((int)TurnsTaken) && !Calm)
                {
                    Tally.Add("kills at an await");
                    Kill(Pick([.. _silos.Values.Where(silo => !silo.Dead)]));
                    continue;
                }
                if (Plan.StallsAtTurn.Contains((int)TurnsTaken) && !Calm)
                {
                    Tally.Add("stands still at an await");
                    Stall(Pick([.. _silos.Values.Where(silo => silo.HasTrial && !silo.Dead)]));
                    continue;
                }
                ready[ready.Count == 1 ? 0 : Random.Next(ready.Count)].Turns.RunNext();
                if (TurnsTaken > 2_000_000)
                    throw new InvalidOperationException("The run takes turns without end.");
                continue;
            }
            if (Time.Now > limit.Ticks && mayEnd)
                return;
            if (Time.Now > limit.Ticks || !Time.FireNext())
                throw new InvalidOperationException($"The run did not end within {TimeSpan.FromTicks(Time.Now)} of its own time. {string.Join("; ", _silos.Values)}. Placed: {string.Join(", ", _placed.Select(pair => $"{pair.Key} on {pair.Value.Name}"))}.");
        }
    }

    private static void Ignore(Task task) => task.ContinueWith(ended => ended.Exception, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    private sealed class Meters : IMeterFactory
    {
        private readonly List<Meter> _made = [];

        public Meter Create(MeterOptions options)
        {
            _made.Add(new Meter(options));
            return _made[^1];
        }

        public void Dispose() => _made.ForEach(meter => meter.Dispose());
    }
}
