using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace AdjointDpm.Bench;

/// <summary>What the cluster itself costs: trials of one step and one shard that compute nothing, durable on files, one silo in this process.</summary>
internal static class NoOpTrials
{
    public static async Task RunAsync(int trials, int concurrent)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        // Not the folder of the caller, whose changes the host would watch.
        var builder = Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.UseOrleans(silo =>
        {
            silo.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = ("bench", "bench"));
            silo.Configure<EndpointOptions>(options => (options.AdvertisedIPAddress, options.SiloPort, options.GatewayPort) = (IPAddress.Loopback, FreePort(), FreePort()));
            silo.AddAdjointDpm(folder, new WorkerOptions());
            silo.Services.AddSingleton<IGradientEngineFactory, Engines>();
            silo.UseAdjointDpmFiles(folder, "bench");
        });
        using var host = builder.Build();
        await host.StartAsync();
        var grains = host.Services.GetRequiredService<IGrainFactory>();
        // A silo runs for weeks: the compiler's work on its first hundreds of trials is no cost of the ten thousandth.
        await RunAsync(grains, "warm", Spec(WarmUp, concurrent));
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var disk = host.Services.GetRequiredService<IDisk>() as JournaledDisk;
        var (flushes, processor) = (disk?.Flushes, Environment.CpuUsage.TotalTime);
        var seconds = (await RunAsync(grains, "bench", Spec(trials, concurrent))).TotalSeconds;
        var cpu = (Environment.CpuUsage.TotalTime - processor).TotalSeconds;
        flushes = disk?.Flushes - flushes;
        var grown = GC.GetTotalMemory(forceFullCollection: true) - before;
        var times = new List<double>();
        for (var skip = 0; skip < trials; skip += ExperimentSnapshot.MostTrials)
            times.AddRange((await grains.GetGrain<IExperimentGrain>("bench").GetTrialsAsync(skip, ExperimentSnapshot.MostTrials)).Select(trial => (trial.EndedAt!.Value - trial.StartedAt!.Value).TotalMilliseconds));
        var late = times.Skip(trials / 2).Order().ElementAt((int)((trials - trials / 2) * 0.99));
        times.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"| {trials} | {concurrent} | {trials / seconds:f0} | {times[times.Count / 2]:f0} | {times[(int)(times.Count * 0.99)]:f0} | {late:f0} | {cpu / trials * 1e3:f1} | {grown / 1024.0 / trials:f1} | {(double?)flushes / trials + 1:f2} | {Flush(folder):f2} |"));
        await host.StopAsync();
        Directory.Delete(folder, recursive: true);
    }

    private const int WarmUp = 500;

    /// <returns>From the submission to the end of the last trial.</returns>
    internal static async Task<TimeSpan> RunAsync(IGrainFactory grains, string id, ExperimentSpec spec)
    {
        var json = ExperimentSpecJson.Serialize(spec);
        var experiment = grains.GetGrain<IExperimentGrain>(id);
        var receipt = await experiment.SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), id));
        while (await experiment.GetSnapshotAsync() is not { Summary.EndedAt: not null })
            await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System);
        if ((await experiment.GetSnapshotAsync())!.Summary is not { State: RunState.Succeeded } summary || summary.TrialsEnded != receipt.Trials)
            throw new InvalidOperationException((await experiment.GetSnapshotAsync())!.Reason);
        return summary.EndedAt!.Value - summary.SubmittedAt;
    }

    internal static ExperimentSpec Spec(int trials, int concurrent) => new()
    {
        Model = new ModelSpec { Path = "/nowhere" },
        Losses = [new LossSpec { Name = LossName.PixelDistance }],
        Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
        Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = [.. Enumerable.Range(1, trials).Select(i => i.ToString(CultureInfo.InvariantCulture))] } },
        Training = new TrainingSpec { Steps = 1, Shards = 1, SamplesPerShard = 1 },
        HeldOut = new HeldOutSpec { Samples = 1 },
        Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        MaxConcurrentTrials = concurrent,
    };

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Milliseconds that this disk takes to flush a small file: the floor of every commit.</summary>
    private static double Flush(string folder)
    {
        using var file = new FileStream(Path.Combine(folder, "flush"), FileMode.Create);
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < 100; i++)
        {
            file.WriteByte(0);
            file.Flush(flushToDisk: true);
        }
        return clock.Elapsed.TotalMilliseconds / 100;
    }

    internal sealed class Engines(IReadOnlyDictionary<string, double> sums) : IGradientEngineFactory
    {
        public Engines()
            : this(new Dictionary<string, double> { ["loss"] = 1 })
        {
        }

        public IGradientEngine Create(string device) => new NoOp(sums);
    }

    private sealed class NoOp(IReadOnlyDictionary<string, double> sums) : IGradientEngine
    {

        public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken) => new(new byte[16], new string('0', 64));

        public GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => throw new NotSupportedException("Nothing is proven here.");

        public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken) => new(new byte[16], 1, sums, new WorkStatistics { Worker = "bench/cpu:0", AdjointNorms = [1, 2, 3, 4, 5, 6, 7, 8, 9], PeakLiveBytes = 1_000_000 });

        public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken) => new(samples, sums, new WorkStatistics());

        public byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => [];

        public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken)
        {
        }

        public bool Spare(TrialPlan plan) => false;

        public void Dispose()
        {
        }
    }
}
