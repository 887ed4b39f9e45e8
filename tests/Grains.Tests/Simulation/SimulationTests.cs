using System.Globalization;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>
/// The cluster under thousands of schedules of faults, in virtual time. A failure names its seed;
/// <c>ADJOINTDPM_SIMULATION_SEED=n</c> runs that one alone, <c>ADJOINTDPM_SIMULATION_RUNS=n</c> another number of them.
/// </summary>
public sealed class SimulationTests
{
    private static readonly Lazy<string> CalmSingle = new(() => Calm(Simulated.Single)), CalmSearch = new(() => Calm(Simulated.Search)), CalmHalving = new(() => Calm(Simulated.Halving));

    private static int Runs(int standard) => Variable("RUNS") ?? standard;

    [Fact]
    public void EqualSeeds_GiveEqualRuns_TurnByTurn()
    {
        var plan = FaultPlan.Random(7);
        var (first, second) = (Simulated.Run(7, Simulated.Search, plan, null), Simulated.Run(7, Simulated.Search, plan, null));
        Assert.Equal(first.Fingerprint, second.Fingerprint);
        Assert.Equal(first.Tally.ToString(), second.Tally.ToString());
    }

    [Fact]
    public void AnyScheduleOfFaults_GivesTheUndisturbedRun() =>
        Check("random", Runs(400), seed => (Simulated.Search, FaultPlan.Random(seed), CalmSearch.Value),
            ["kills at an await", "silos killed", "messages lost", "answers lost", "messages delayed", "messages sent twice", "slow shards", "stuck shards", "writes failed", "writes done but said to have failed", "takeovers", "silos cut off", "silos stalled", "stands still at an await", "messages overtaken by later ones", "two coordinators at once"]);

    /// <summary>Coordinators die while trials of an ASHA sweep with TPE rest, go on and end: the table of trials is the undisturbed one.</summary>
    [Fact]
    public void EarlyStopping_UnderAnyScheduleOfFaults_GivesTheUndisturbedTable() =>
        Check("halving", Runs(60), seed => (Simulated.Halving, FaultPlan.Random(seed), CalmHalving.Value),
            ["kills at an await", "silos killed", "messages lost", "messages delayed", "messages sent twice", "writes failed", "takeovers", "silos cut off", "silos stalled"]);

    /// <summary>Parameters that travel, into memory that was used before: each shard computes with the version that it was given, which its engine looks at, and the run is the undisturbed one.</summary>
    [Fact]
    public void VersionsInMemoryThatWasUsedBefore_GiveTheUndisturbedRun()
    {
        var spec = Simulated.Single with { Training = Simulated.Single.Training with { Steps = 10 } };
        var calm = Calm(spec);
        Check("memory", Runs(100), seed => (spec, FaultPlan.Random(seed), calm),
            ["versions in memory that was used before", "kills at an await", "silos killed", "messages lost", "answers lost", "messages sent twice", "slow shards", "writes failed", "takeovers", "silos stalled", "two coordinators at once"],
            build: (seed, plan, folder) => new World(seed, plan, 1 + seed % 3, folder, inlineBytes: 0));
    }

    /// <summary>Two faults at every phase in every run, so that each meets the others' aftermath.</summary>
    [Fact]
    public void EveryFault_AtEveryPhase_HappensHundredsOfTimes()
    {
        var (faults, phases) = (Enum.GetValues<Fault>(), Enum.GetValues<Phase>());
        var runs = Runs(1100);
        Check("combined", runs, seed =>
        {
            var random = new Random(seed);
            return (Simulated.Single, new FaultPlan
            {
                AtPhases = [.. phases.SelectMany(phase => new[] { 1, 2 }.Select(half => (phase, random.Next(half, half + (phase >= Phase.Reducing ? 1 : 6)), faults[(seed + (int)phase * 5 + half * 3) % faults.Length])))],
                StallsAtTurn = [random.Next(100, 1500), random.Next(100, 3000)],
                // Slow steps, so that a coordinator that stood still wakes while the next one is at work.
                Slow = seed % 2 == 0 ? 0.5 : 0,
                Until = TimeSpan.FromMinutes(2),
            }, CalmSingle.Value);
        }, [World.LeasedAhead, .. from fault in faults from phase in phases select $"{fault} at {phase}"], atLeast: runs * 200 / 1100);
    }

    /// <summary>Eight parameters in four ranges on three silos give the run of one process that has them all, whatever goes wrong.</summary>
    [Fact]
    public void ParametersInRangesOnSeveralSilos_GiveTheUndisturbedRunOfOne()
    {
        World InRanges(int seed, FaultPlan plan, string folder) => new(seed, plan, 3, folder) { RangeBytes = 2 * sizeof(float) };
        var calm = Simulated.Run(0, Simulated.Single, FaultPlan.None, CalmSingle.Value, InRanges);
        Assert.Empty(calm.Violations);
        Assert.Equal(4, calm.Tally["ranges activated"]);
        var faults = Enum.GetValues<Fault>();
        Check("ranges", Runs(150), seed =>
        {
            var random = FaultPlan.Random(seed);
            return (Simulated.Single, random with { AtPhases = [.. random.AtPhases, ((Phase)(seed % 6), 1 + seed % 3, faults[seed / 6 % faults.Length])] }, CalmSingle.Value);
        }, ["kills at an await", "silos killed", "messages lost", "answers lost", "writes failed", "takeovers", "silos cut off", "silos stalled"], build: InRanges);
    }

    /// <summary>Owners of ranges that need longer than a call may take as a rule: they are waited for, and no step is begun again for it.</summary>
    [Fact]
    public void OwnersOfRangesThatAreSlow_AreWaitedFor()
    {
        World InRanges(int seed, FaultPlan plan, string folder) => new(seed, plan, 3, folder) { RangeBytes = 2 * sizeof(float) };
        for (var seed = 1; seed <= 20; seed++)
        {
            var slow = Simulated.Run(seed, Simulated.Single, new FaultPlan { SlowOwner = 0.3, Until = TimeSpan.FromHours(1) }, CalmSingle.Value, InRanges);
            Assert.True(slow.Violations.Count == 0, $"seed {seed}: {string.Join('\n', slow.Violations)}");
            Assert.Equal(4, slow.Tally["ranges activated"]);
            Assert.InRange(slow.Tally["slow owners"], 1, 100);
        }
        // Nor is a range let go because nothing comes to it for as long as a shard takes.
        var patient = Simulated.Run(1, Simulated.Single, new FaultPlan { Long = TimeSpan.FromMinutes(15) }, CalmSingle.Value, (s, p, f) => new World(s, p, 3, f) { RangeBytes = 2 * sizeof(float), Limit = TimeSpan.FromHours(5) });
        Assert.Empty(patient.Violations);
        Assert.Equal(4, patient.Tally["ranges activated"]);
        var faults = Enum.GetValues<Fault>();
        Check("slow owners", Runs(60), seed => (Simulated.Single, FaultPlan.Random(seed) with { SlowOwner = 0.1, AtPhases = [((Phase)(seed % 6), 1 + seed % 3, faults[seed / 6 % faults.Length])] }, CalmSingle.Value),
            ["slow owners", "kills at an await", "silos killed", "takeovers", "silos cut off", "silos stalled"], build: InRanges);
    }

    /// <summary>Two trials of a sweep on silos whose devices compute two shards at once.</summary>
    [Fact]
    public void SeveralShardsAtOnceOnADevice_GiveTheUndisturbedRun() =>
        Check("at once", Runs(40), seed => (Simulated.Search, FaultPlan.Random(seed), CalmSearch.Value),
            ["shards computed beside another on a device", "kills at an await", "silos killed", "messages lost", "slow shards", "takeovers", "silos stalled"],
            build: (seed, plan, folder) => new World(seed, plan, 2, folder) { Workers = new WorkerOptions { ShardsAtOnce = 2 } });

    /// <summary>What encoded gradients leave over is carried from step to step through everything that goes wrong, with the parameters in one place or in ranges.</summary>
    [Fact]
    public void EncodedGradients_GiveTheUndisturbedRun()
    {
        World InRanges(int seed, FaultPlan plan, string folder) => new(seed, plan, 3, folder) { RangeBytes = seed % 3 == 0 ? 2 * sizeof(float) : 1 << 20 };
        var encoded = new[] { GradientEncoding.Bf16, GradientEncoding.Fp16 }
            .Select(encoding => Simulated.Single with { Training = Simulated.Single.Training with { Steps = 10, GradientEncoding = encoding } }).ToArray();
        var calm = encoded.Select(Calm).ToArray();
        Assert.Equal(3, calm.Append(Calm(encoded[0] with { Training = encoded[0].Training with { GradientEncoding = GradientEncoding.None } })).Distinct().Count());
        // One worker, and parameters in ranges.
        Assert.Empty(Simulated.Run(0, encoded[0], FaultPlan.None, calm[0], (s, p, f) => new World(s, p, 1, f)).Violations);
        Assert.Empty(Simulated.Run(0, encoded[0], FaultPlan.None, calm[0], InRanges).Violations);
        var faults = Enum.GetValues<Fault>();
        Check("encoded", Runs(200), seed =>
        {
            var random = FaultPlan.Random(seed);
            return (encoded[seed % 2], random with { AtPhases = [.. random.AtPhases, ((Phase)(seed % 6), 1 + seed % 9, faults[seed / 6 % faults.Length])] }, calm[seed % 2]);
        }, ["kills at an await", "silos killed", "messages lost", "answers lost", "writes failed", "takeovers", "silos cut off", "silos stalled", "residuals gone"], build: InRanges);
    }

    /// <summary>What a search learns from, and so what it tries next, does not depend on who was killed or who ended first.</summary>
    [Fact]
    public void SearchesThatLearn_GiveTheUndisturbedRun()
    {
        var learning = new[] { (AlgorithmName.Tpe, 13), (AlgorithmName.CmaEs, 9), (AlgorithmName.Gp, 13) }.Select(search => Simulated.Single with
        {
            Training = Simulated.Single.Training with { Steps = 1 },
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Min = 0.001, Max = 0.3, Distribution = Distribution.LogUniform } },
            Algorithm = new AlgorithmSpec { Name = search.Item1 },
            MaxTrials = search.Item2,
            MaxConcurrentTrials = 3,
        }).ToArray();
        var calm = learning.Select(Calm).ToArray();
        Assert.Equal(learning.Length, calm.Distinct().Count());
        // One worker, and so another order of endings.
        Assert.All(learning.Zip(calm), pair => Assert.Empty(Simulated.Run(0, pair.First, FaultPlan.None, pair.Second, (s, p, f) => new World(s, p, 1, f)).Violations));
        Check("learning", Runs(90), seed => (learning[seed % 3], FaultPlan.Random(seed), calm[seed % 3]), ["kills at an await", "silos killed", "messages lost", "writes failed", "takeovers", "silos stalled"]);
    }

    /// <summary>Held-out looks between steps: the best version is found, kept through every fault, and is the one that is saved.</summary>
    [Fact]
    public void GuardedTraining_GivesTheUndisturbedRun()
    {
        var guarded = Simulated.Single with
        {
            // Steps too long to go down for ever.
            Optimizer = Simulated.Single.Optimizer with { LearningRate = 0.4 },
            Training = Simulated.Single.Training with { Steps = 6 },
            HeldOut = new HeldOutSpec { Samples = 4, Every = 1, Patience = 2 },
        };
        var calm = Calm(guarded);
        Assert.Contains("heldOut.bestStep", calm, StringComparison.Ordinal);
        Assert.Empty(Simulated.Run(0, guarded, FaultPlan.None, calm, (s, p, f) => new World(s, p, 1, f)).Violations);
        var faults = Enum.GetValues<Fault>();
        Check("guarded", Runs(150), seed =>
        {
            var random = FaultPlan.Random(seed);
            return (guarded, random with { AtPhases = [.. random.AtPhases, ((Phase)(seed % 6), 1 + seed % 9, faults[seed / 6 % faults.Length])] }, calm);
        }, ["kills at an await", "silos killed", "messages lost", "writes failed", "takeovers", "silos stalled"]);
    }

    /// <summary>Silos that share flushes, on a machine whose power is cut: at any phase, and once more when all is over.</summary>
    [Fact]
    public void SilosWithJournals_OnAMachineThatLosesPower_GiveTheUndisturbedRun()
    {
        var faults = Enum.GetValues<Fault>();
        Check("journals", Runs(500), seed =>
        {
            var random = FaultPlan.Random(seed);
            return (Simulated.Search, random with { AtPhases = [.. random.AtPhases, ((Phase)(seed % 6), 1 + seed % 7, seed % 3 == 0 ? faults[seed / 6 % faults.Length] : Fault.KillAll)] }, CalmSearch.Value);
        }, ["power cuts", "files that lost what was not flushed", "changes written again", "journals ended", "silos that ended themselves", "takeovers", "kills at an await", "silos stalled", "flushes failed"], build: (s, p, f) => new World(s, p, 3, f, journaled: true));
    }

    /// <summary>Without a proof the plan is committed with the first step: when that fails both are recorded again.</summary>
    [Fact]
    public void PlanAndFirstStepInOneCommit_GiveTheUndisturbedRun()
    {
        var brief = Simulated.Single with { Gradient = Simulated.Single.Gradient with { Check = new ProofSpec { Mode = ProofMode.Off } } };
        var calm = Calm(brief);
        Check("plan and step", Runs(60), seed => (brief, new FaultPlan { AtPhases = [(Phase.BeforeCommit, 1, seed % 3 == 0 ? Fault.Storage : seed % 3 == 1 ? Fault.KillCoordinator : Fault.KillAll)] }, calm), ["steps done again"]);
    }

    /// <summary>Storage that answers nobody for a while, as a server does that is started anew: trials wait for it, and none has failed.</summary>
    [Fact]
    public void StorageThatIsAwayForAWhile_IsWaitedFor()
    {
        Check("outages", Runs(60), seed =>
        {
            var from = 0.05 + seed % 50 * 0.05;
            return (Simulated.Search, new FaultPlan { Outages = [(from, from + (seed % 4 == 0 ? 60 : 9 + 2 * (seed % 4)))], KillsAtTurn = seed % 3 == 0 ? [500 + 10 * seed] : [], Until = TimeSpan.FromMinutes(2) }, CalmSearch.Value);
        }, ["answers that an outage refused", "kills at an await", "takeovers"]);
    }

    /// <summary>States too long for a record of the journal go to their place past it, and still name only what is on the disk: silos are killed, and the power is cut, in between.</summary>
    [Fact]
    public void StatesLongerThanARecordOfTheJournal_GiveTheUndisturbedRun()
    {
        var large = Simulated.Single with { Sample = new SampleSpec { Prompts = [.. Enumerable.Range(0, 700).Select(i => $"{i}: {new string('p', 100)}")] } };
        Assert.True(ExperimentSpecJson.Serialize(large).Length > JournaledDisk.LongestRecord);
        var calm = Calm(large);
        var faults = new[] { Fault.KillCoordinator, Fault.KillAll, Fault.Stall };
        Check("large states", Runs(40), seed =>
        {
            var random = new Random(seed);
            return (large, new FaultPlan
            {
                AtPhases = [(seed % 2 == 0 ? Phase.BeforeCommit : Phase.AfterCommit, 1 + seed / 2 % 4, faults[seed % 3]), ((Phase)random.Next(6), random.Next(1, 6), faults[random.Next(3)])],
                KillsAtTurn = [random.Next(100, 1500), random.Next(100, 3000)],
            }, calm);
        }, ["power cuts", "silos killed", "takeovers", "kills at an await", "changes written again"], build: (s, p, f) => new World(s, p, 3, f, journaled: true));
    }

    /// <summary>Workers run out of memory, are cordoned and uncordoned, among everything else: the run is the undisturbed one that asks for less from the same step on.</summary>
    [Fact]
    public void WorkersOutOfMemoryAndCordoned_GiveTheUndisturbedRunFromTheSameStepOn()
    {
        World Of(int seed, FaultPlan plan, string folder) => new(seed, plan, 3, folder) { RangeBytes = seed % 3 == 0 ? 2 * sizeof(float) : 1 << 20 };
        var steps = Simulated.Single.Training.Steps;
        // By the step from which on: never, or 1 to the last. The first gradient of a step is the one that does not fit.
        var calm = new Dictionary<int, string> { [0] = CalmSingle.Value };
        for (var gradient = 1; calm.Count <= steps; gradient++)
        {
            var run = Simulated.Run(0, Simulated.Single, new FaultPlan { MemoryShort = [gradient] }, null);
            Assert.Empty(run.Violations);
            calm.TryAdd(run.LeanFrom[0] ?? 0, run.Fingerprint);
            Assert.Equal(calm[run.LeanFrom[0] ?? 0], run.Fingerprint);
        }
        Assert.Equal(steps + 1, calm.Values.Distinct().Count());
        Assert.Equal(steps + 1, calm.Keys.Distinct().Count());
        var faults = Enum.GetValues<Fault>();
        Check("memory and cordons", Runs(600), seed =>
        {
            var random = new Random(seed);
            var plan = FaultPlan.Random(seed);
            return (Simulated.Single, plan with
            {
                AtPhases = [.. plan.AtPhases, ((Phase)(seed % 6), 1 + seed % 5, faults[seed / 6 % faults.Length])],
                MemoryShort = [random.Next(1, 12), random.Next(1, 30)],
                Cordons = random.Next(0, 12),
            }, null!);
        }, ["workers out of memory", "trials that ask for less", "workers cordoned", "workers uncordoned", "all workers cordoned", "kills at an await", "takeovers", "writes failed", "writes done but said to have failed", "steps done again"], build: Of, expected: run => calm[run.LeanFrom[0] ?? 0]);
    }

    /// <summary>Two machines of one kind and one that rounds the other way: whatever fails, a trial has the bits of the kind that it began on.</summary>
    [Fact]
    public void UnlikeMachines_GiveATrialTheBitsOfTheKindItBeganOn()
    {
        var patient = Simulated.Single with { Failure = Simulated.Single.Failure with { UnlikeAfterSeconds = 100_000 } };
        string[] kinds = ["plain", SimEngine.Rounding];
        var calm = kinds.ToDictionary(kind => kind + "1", kind => Of(kind, kind));
        Assert.Equal(2, calm.Values.Distinct().Count());
        // The first trial begins on the larger kind.
        Assert.Equal(calm["plain1"], Of("plain", SimEngine.Rounding));
        Check("unlike", Runs(200), Schedule(patient), ["kills at an await", "silos killed", "takeovers", "messages lost"], build: Unlike("plain", SimEngine.Rounding), expected: run => calm[run.Arithmetic[0]]);

        string Of(string most, string other)
        {
            var run = Simulated.Run(0, patient, FaultPlan.None, null, Unlike(most, other));
            Assert.Empty(run.Violations);
            return run.Fingerprint;
        }
    }

    /// <summary>With little patience trials go on with other machines when theirs are away: what came of it depends on the kinds and on the step at which they changed, and on nothing else.</summary>
    [Theory]
    [InlineData(GradientEncoding.None), InlineData(GradientEncoding.Bf16)]
    public void TrialsWithoutPatienceForUnlikeMachines_SayFromWhichStepOn(GradientEncoding encoding)
    {
        var hasty = Simulated.Single with { Training = Simulated.Single.Training with { Steps = 10, GradientEncoding = encoding }, Failure = Simulated.Single.Failure with { UnlikeAfterSeconds = 0 } };
        var first = new Dictionary<string, string>();
        Check("hasty", Runs(200), Schedule(hasty), ["kills at an await", "silos killed", "takeovers", "trials that went on with unlike workers"], build: Unlike("plain", SimEngine.Rounding),
            expected: run => first.TryGetValue(run.Arithmetic[0], out var known) ? known : first[run.Arithmetic[0]] = run.Fingerprint);
        Assert.InRange(first.Values.Distinct().Count(), 3, first.Count);
    }

    private static Func<int, FaultPlan, string, World> Unlike(string most, string other) => (seed, plan, folder) => new World(seed, plan, 3, folder) { Arithmetic = [other, most, most], RangeBytes = seed % 3 == 0 ? 2 * sizeof(float) : 1 << 20 };

    private static Func<int, (ExperimentSpec Spec, FaultPlan Plan, string Undisturbed)> Schedule(ExperimentSpec spec) => seed =>
    {
        var (plan, faults) = (FaultPlan.Random(seed), Enum.GetValues<Fault>());
        return (spec, plan with { AtPhases = [.. plan.AtPhases, ((Phase)(seed % 6), 1 + seed % 5, faults[seed / 6 % faults.Length])] }, null!);
    };

    [Theory]
    [InlineData(0), InlineData(1), InlineData(2), InlineData(3), InlineData(4), InlineData(5)]
    public void EveryFault_AtThisPhaseOfAStep_GivesTheUndisturbedRun(int phase)
    {
        var faults = Enum.GetValues<Fault>();
        Check(((Phase)phase).ToString(), Runs(216), seed =>
        {
            var random = new Random(seed);
            return (Simulated.Single, new FaultPlan { AtPhases = [((Phase)phase, random.Next(1, phase >= 4 ? 4 : 10), faults[seed % faults.Length])] }, CalmSingle.Value);
        }, [.. faults.Select(fault => $"{fault} at {(Phase)phase}")]);
    }

    /// <summary>A simulator that finds nothing proves nothing: each of these is a cluster with one safeguard taken out.</summary>
    [Theory]
    [InlineData("conditional writes"), InlineData("tokens of results"), InlineData("durable ledger"), InlineData("flushes")]
    public void ClusterWithoutThisSafeguard_IsFound(string without)
    {
        var found = Enumerable.Range(1, 200).Select(seed => Simulated.Run(seed, Simulated.Single, Plan(seed), CalmSingle.Value, (s, p, f) =>
        {
            var world = new World(s, p, 3, f, journaled: without == "flushes") { IgnoresETags = without == "conditional writes", IgnoresTokens = without == "tokens of results" };
            world.Disk.LosesAppends = without == "durable ledger";
            world.Disk.IgnoresFlushes = without == "flushes";
            return world;
        })).FirstOrDefault(run => run.Violations.Count > 0);
        Assert.True(found is not null, $"200 schedules did not notice that the cluster has no {without}.");
        TestContext.Current.TestOutputHelper?.WriteLine($"Without {without}: found by seed {found.Seed}: {found.Violations[0]}");

        FaultPlan Plan(int seed) => without == "durable ledger" ? FaultPlan.None : new FaultPlan
        {
            AtPhases = [((Phase)(seed % 6), 1 + seed % 3, without == "tokens of results" ? Fault.LateStale : Fault.Cut), ((Phase)((seed + 3) % 6), 2, without == "tokens of results" ? Fault.LateStale : Fault.Cut)],
            Slow = 0.3,
        };
    }

    private static string Calm(ExperimentSpec spec)
    {
        var calm = Simulated.Run(0, spec, FaultPlan.None, null);
        Assert.Empty(calm.Violations);
        return calm.Fingerprint;
    }

    private static void Check(string what, int runs, Func<int, (ExperimentSpec Spec, FaultPlan Plan, string Undisturbed)> schedule, IReadOnlyList<string> mustHappen, int atLeast = 1, Func<int, FaultPlan, string, World>? build = null, Func<Simulated, string>? expected = null)
    {
        var only = Variable("SEED");
        var tally = new Tally();
        var failures = new List<string>();
        var started = TimeProvider.System.GetTimestamp();
        var seeds = only is { } one ? [one] : Enumerable.Range(1, runs);
        Parallel.ForEach(seeds, new ParallelOptions { MaxDegreeOfParallelism = 2, CancellationToken = TestContext.Current.CancellationToken }, seed =>
        {
            var (spec, plan, undisturbed) = schedule(seed);
            var run = Simulated.Run(seed, spec, plan, undisturbed, build);
            lock (tally)
            {
                run.Tally.Add("trials that ask for less", run.LeanFrom.Count(lean => lean is not null));
                run.Tally.Add("trials that went on with unlike workers", run.Arithmetic.Count(kinds => kinds.Contains(' ', StringComparison.Ordinal)));
                if (expected is not null && run.Fingerprint.Length > 0 && expected(run) is var wanted && wanted != run.Fingerprint)
                    run = run with { Violations = [.. run.Violations, $"the results are not those of the undisturbed run that is lean from step {run.LeanFrom[0]} with {run.Arithmetic[0]}:\n{run.Fingerprint}\ninstead of\n{wanted}"] };
                tally.Add(run.Tally);
                if (run.Violations.Count > 0)
                    failures.Add($"seed {seed} ({string.Join(", ", plan.AtPhases)}): {run.Violations[0]}");
            }
        });
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {seeds.Count()} schedules in {TimeProvider.System.GetElapsedTime(started).TotalSeconds:f1} s, {failures.Count} failed: {tally}"));
        Assert.True(failures.Count == 0, $"{failures.Count} of {runs} schedules failed; run one alone with ADJOINTDPM_SIMULATION_SEED=n.\n{string.Join('\n', failures.Order().Take(10))}");
        if (only is null)
            Assert.All(mustHappen, fault => Assert.True(tally[fault] >= atLeast, $"'{fault}' happened {tally[fault]} times in {runs} schedules instead of {atLeast}: {tally}"));
    }

    private static int? Variable(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable("ADJOINTDPM_SIMULATION_" + name), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;
}
