using System.Globalization;
using System.Text.Json;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Machines that round differently, in one cluster. Here libtorch is told to do without the vector instructions of one silo's processor.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class UnlikeMachinesTests
{
    private static readonly string[] WithoutVectors = ["env", "ATEN_CPU_CAPABILITY=default", "dotnet", SiloProcess.Program];

    private static readonly ExperimentSpec TwoTrials = DigitsSpecs.Small with
    {
        Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = ["3", "4"] } },
        MaxConcurrentTrials = 2,
        Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
    };

    [Fact]
    public async Task EachTrial_HasTheBitsOfOneKind_AndAllOfItsWorkersAreOfIt()
    {
        var kinds = new Dictionary<string, IReadOnlyList<string?>>();
        foreach (var command in new[] { null, WithoutVectors })
        {
            await using var alone = await StartAsync(("alone", command));
            kinds[(await KindsAsync(alone)).Single().Value] = await HashesAsync(alone);
        }
        Assert.Equal(2, kinds.Count);

        await using var cluster = await StartAsync(("plain-0", null), ("plain-1", null), ("odd", WithoutVectors));
        var workers = await KindsAsync(cluster);
        Assert.Equal(workers["plain-0/cpu:0"], workers["plain-1/cpu:0"]);
        Assert.Equal(kinds.Keys.Order(), workers.Values.Distinct().Order());
        var hashes = await HashesAsync(cluster);
        var trials = (await (await cluster.ExperimentAsync("two")).GetSnapshotAsync(TestContext.Current.CancellationToken))!.Trials;
        Assert.Equal(workers["plain-0/cpu:0"], trials[0].Arithmetic.Single().Kind);
        Assert.All(trials, trial => Assert.Equal(kinds[Assert.Single(trial.Arithmetic).Kind][trial.Index], hashes[trial.Index]));
        Assert.All(trials, trial => Assert.All(WorkersOf(cluster, "two", trial.Index), worker => Assert.Equal(trial.Arithmetic[0].Kind, workers[worker])));
    }

    [Fact]
    public async Task WhenItsKindIsGone_ATrialGoesOnWithTheOthers_AndSaysSo()
    {
        await using var cluster = await StartAsync(("plain", null), ("odd", WithoutVectors));
        var plain = (await KindsAsync(cluster))["plain/cpu:0"];
        await cluster.SubmitAsync("lost", DigitsSpecs.Small with
        {
            Training = DigitsSpecs.Small.Training with { Steps = 30 },
            Failure = DigitsSpecs.Small.Failure with { UnlikeAfterSeconds = 1 },
            Checkpoint = new CheckpointSpec { SheetRows = 1, KeepSteps = 1 },
        });
        var began = await cluster.WaitAsync("lost", snapshot => snapshot.Trials[0].Step >= 2);
        // Of two kinds of one worker each the first by name.
        await cluster.KillAsync(began.Trials[0].Arithmetic.Single().Kind == plain ? "plain" : "odd");
        var ended = await cluster.WaitAsync("lost", snapshot => snapshot.Summary.EndedAt is not null);
        Assert.True(ended.Summary.State == RunState.Succeeded, ended.Reason);
        var trial = ended.Trials[0];
        Assert.Equal(2, trial.Arithmetic.Count);
        var first = trial.Arithmetic[1].Step;
        Assert.InRange(first, 3, 30);
        var experiment = await cluster.ExperimentAsync("lost");
        Assert.True((await experiment.AuditAsync(0, TestContext.Current.CancellationToken))!.Holds);
        var told = (await experiment.GetEventsAsync(0, 0, 1000, TestContext.Current.CancellationToken)).Single(happened => happened.Kind == EventKind.ArithmeticChanged);
        Assert.Equal((0, first), (told.Trial, told.Step));
        // What the machines that are left computed has its bits again; what the others did cannot be judged here.
        Assert.Equal(ReplayState.Equal, (await ReplayTests.ReplayAsync(cluster, "lost", 30)).State);
        var former = await ReplayTests.ReplayAsync(cluster, "lost", 1);
        Assert.Equal(ReplayState.Failed, former.State);
        Assert.Contains("No worker was left that computes as", former.Reason, StringComparison.Ordinal);
    }

    private static async Task<RealCluster> StartAsync(params (string Name, string[]? Command)[] silos)
    {
        var cluster = await RealCluster.StartAsync(0);
        foreach (var (name, command) in silos)
            await (command is null ? cluster.AddAsync(name) : cluster.AddByAsync(command, name));
        return cluster;
    }

    /// <summary>Once all know each other.</summary>
    private static async Task<Dictionary<string, string>> KindsAsync(RealCluster cluster)
    {
        IReadOnlyList<WorkerDescription> workers = [];
        await RealCluster.RetryAsync(async () =>
        {
            workers = await (await cluster.ClientAsync()).GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).DescribeAsync(TestContext.Current.CancellationToken);
            Assert.Equal(cluster.Silos.Count, workers.Count(worker => worker.Arithmetic is not null));
        });
        return workers.ToDictionary(worker => worker.Name, worker => worker.Arithmetic!);
    }

    private static async Task<IReadOnlyList<string?>> HashesAsync(RealCluster cluster)
    {
        var snapshot = await cluster.RunAsync("two", TwoTrials);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        return [.. snapshot.Trials.Select(trial => trial.ParametersSha256)];
    }

    private static List<string> WorkersOf(RealCluster cluster, string experiment, int trial)
    {
        var lines = Directory.GetFiles(Path.Combine(cluster.Folder, "trials", experiment, trial.ToString(CultureInfo.InvariantCulture), RunFolder.LedgerFolder)).SelectMany(File.ReadLines);
        var workers = lines.SelectMany(line => JsonDocument.Parse(line).RootElement.GetProperty("contributions").EnumerateArray().Select(contribution => contribution.GetProperty("worker").GetString()!)).Distinct().ToList();
        Assert.NotEmpty(workers);
        return workers;
    }
}
