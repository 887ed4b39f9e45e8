using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Bench;

/// <summary>What the data plane and the commit cost: gradients of several silo processes on loopback, brought to an owner and added in fixed order; and a step around a computation that sleeps.</summary>
/// <remarks>Beside Gloo's all-reduce between as many processes, one run of each in turn. PYTHON names a Python with PyTorch; default: /usr/bin/python3.</remarks>
internal static class Transport
{
    private const int Rounds = 9;
    private const int Steps = 60;

    /// <summary>So many that the runtime has compiled for good what every step runs.</summary>
    private const int WarmSteps = 150;

    /// <summary>Trials that it may take for each silo to own one.</summary>
    private const int MostWarm = 8;

    private static readonly string[] Phases = ["shards", "reduce", "optimize", "commit"];

    public static async Task RunAsync(int[] workers, int[] megabytes)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        try
        {
            Console.WriteLine($"{Environment.ProcessorCount} processors; milliseconds, median of {Rounds} rounds (least to most) after two that do not count; one run of each in turn.");
            Console.WriteLine();
            foreach (var count in workers)
                foreach (var streamed in new[] { true, false })
                    await ReduceAsync(Path.Combine(folder, $"reduce-{count}-{streamed}"), count, megabytes, streamed);
            Console.WriteLine();
            await StepsAsync(Path.Combine(folder, "steps"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The same without and with mutual TLS between the silos, in turn, and the ratio of the medians.</summary>
    public static async Task RunTlsAsync(int[] workers, int[] megabytes)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        try
        {
            ClusterCertificates.Make(folder, TimeSpan.FromDays(1), TimeProvider.System.GetUtcNow());
            Console.WriteLine("| way | MB | workers | to the mean: plain, ms | TLS, ms | ratio | mean back at every worker: plain, ms | TLS, ms | ratio | processor time: plain, ms | TLS, ms | ratio |");
            Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|---|---|");
            foreach (var count in workers)
                foreach (var streamed in new[] { true, false })
                {
                    var plain = await MeasureAsync(Path.Combine(folder, $"plain-{count}-{streamed}"), count, megabytes, streamed, null);
                    var tls = await MeasureAsync(Path.Combine(folder, $"tls-{count}-{streamed}"), count, megabytes, streamed, Path.Combine(folder, TlsFolder.Silo));
                    foreach (var size in megabytes)
                        Console.WriteLine($"| {(streamed ? "connections" : "chunks")} | {size} | {count} | {string.Join(" | ", plain[size].Zip(tls[size], (p, t) => string.Create(CultureInfo.InvariantCulture, $"{p:f1} | {t:f1} | {t / p:f2}")))} |");
                }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Medians by size: to the mean, and back, and processor time of all processes.</summary>
    private static async Task<Dictionary<int, double[]>> MeasureAsync(string folder, int count, int[] megabytes, bool streamed, string? certificates)
    {
        using var owner = TransportSilo.Host("owner", folder, 0, streamed ? 1 : int.MaxValue, certificates: certificates);
        await owner.StartAsync();
        var silos = await TransportProcess.StartSilosAsync(count, folder, parameters: 4, streamed ? 1 : int.MaxValue, certificates);
        var transfer = owner.Services.GetRequiredService<TensorTransfer>();
        var medians = new Dictionary<int, double[]>();
        foreach (var size in megabytes)
        {
            var (reduced, returned, spent) = (new List<double>(), new List<double>(), new List<double>());
            var buffers = new GradientBuffers(size * 1_000_000 / sizeof(float));
            for (var round = -2; round < Rounds; round++)
            {
                GC.Collect();
                var before = Processor();
                var clock = Stopwatch.StartNew();
                var references = await Task.WhenAll(silos.Select((silo, i) => silo.AskAsync<TensorReference>(FormattableString.Invariant($"offer {size * 1_000_000} {i}"))));
                var reference = transfer.Offer(await MeanAsync(transfer, references, buffers));
                var got = clock.Elapsed;
                await Task.WhenAll(silos.Select(silo => silo.AskAsync<bool>("fetch " + System.Text.Json.JsonSerializer.Serialize(reference))));
                var back = clock.Elapsed;
                transfer.Withdraw(reference);
                await Task.WhenAll(silos.Select(silo => silo.AskAsync<bool>("withdraw")));
                if (round < 0)
                    continue;
                reduced.Add(got.TotalMilliseconds);
                returned.Add(back.TotalMilliseconds);
                spent.Add(Processor() - before);
            }
            medians[size] = [Median(reduced), Median(returned), Median(spent)];
        }
        foreach (var silo in silos)
            await silo.DisposeAsync();
        await owner.StopAsync();
        return medians;

        double Processor() => Environment.CpuUsage.TotalTime.TotalMilliseconds + silos.Sum(silo => silo.ProcessorMilliseconds);

        static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
    }

    private static async Task ReduceAsync(string folder, int count, int[] megabytes, bool streamed)
    {
        using var owner = TransportSilo.Host("owner", folder, 0, streamed ? 1 : int.MaxValue);
        await owner.StartAsync();
        var silos = await TransportProcess.StartSilosAsync(count, folder, parameters: 4, streamed ? 1 : int.MaxValue);
        var gloo = await TransportProcess.StartGlooAsync(count, Path.Combine(folder, "gloo"));
        Console.WriteLine($"{count} workers, each in a process of its own, and the owner in another. {(streamed ? "Over connections beside the messages" : "In chunks among the messages")}. Gloo: {gloo.Greeting}");
        Console.WriteLine();
        Console.WriteLine("| MB | workers | gradients to their mean | its processor time, all processes | of it named by SHA-256 | and the mean back at every worker | Gloo all-reduce | mean, to Gloo | with the way back, to Gloo |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|---|");
        var transfer = owner.Services.GetRequiredService<TensorTransfer>();
        foreach (var size in megabytes)
        {
            var (named, reduced, returned, theirs) = (new List<double>(), new List<double>(), new List<double>(), new List<double>());
            var buffers = new GradientBuffers(size * 1_000_000 / sizeof(float));
            var (processor, sha) = (0.0, (string?)null);
            for (var round = -2; round < Rounds; round++)
            {
                GC.Collect();
                var before = Processor();
                var clock = Stopwatch.StartNew();
                var references = await Task.WhenAll(silos.Select((silo, i) => silo.AskAsync<TensorReference>(FormattableString.Invariant($"offer {size * 1_000_000} {i}"))));
                var offered = clock.Elapsed;
                var mean = await MeanAsync(transfer, references, buffers);
                var got = clock.Elapsed;
                processor += round < 0 ? 0 : Processor() - before;
                var reference = transfer.Offer(mean);
                await Task.WhenAll(silos.Select(silo => silo.AskAsync<bool>("fetch " + System.Text.Json.JsonSerializer.Serialize(reference))));
                var back = clock.Elapsed;
                transfer.Withdraw(reference);
                await Task.WhenAll(silos.Select(silo => silo.AskAsync<bool>("withdraw")));
                if ((sha ??= reference.Sha256) != reference.Sha256)
                    throw new InvalidOperationException("The mean has other bits than the round before.");
                var gloos = gloo.Ranks.Count > 0 ? (await Task.WhenAll(gloo.Ranks.Select(rank => rank.AskAsync<double>(FormattableString.Invariant($"reduce {size * 1_000_000}"))))).Max() : double.NaN;
                if (round < 0)
                    continue;
                named.Add(offered.TotalMilliseconds);
                reduced.Add(got.TotalMilliseconds);
                returned.Add(back.TotalMilliseconds);
                theirs.Add(gloos * 1e3);
            }
            Console.WriteLine($"| {size} | {count} | {Spread(reduced)} | {processor / Rounds:f0} | {Spread(named)} | {Spread(returned)} | {Spread(theirs)} | {Ratio(reduced, theirs)} | {Ratio(returned, theirs)} |");
        }
        Console.WriteLine();
        foreach (var process in silos.Concat(gloo.Ranks))
            await process.DisposeAsync();
        await owner.StopAsync();

        double Processor() => Environment.CpuUsage.TotalTime.TotalMilliseconds + silos.Sum(silo => silo.ProcessorMilliseconds);
    }

    /// <summary>As the coordinator does it: fetch, verify, add over the canonical tree, divide.</summary>
    private static async Task<byte[]> MeanAsync(TensorTransfer transfer, TensorReference[] gradients, GradientBuffers buffers)
    {
        var reduction = new GradientReduction(gradients.Length, buffers.Length, buffers);
        await Task.WhenAll(gradients.Select(async (gradient, shard) =>
        {
            var fetched = buffers.Rent();
            await transfer.FetchAsync(gradient, new FloatBytes(fetched).Memory, CancellationToken.None);
            lock (reduction)
                reduction.Add(shard, fetched, 4);
        }));
        var mean = reduction.Mean();
        var bytes = MemoryMarshal.AsBytes(mean.AsSpan()).ToArray();
        reduction.Return(mean);
        return bytes;
    }

    /// <summary>A step of two shards on two silos, each of which sleeps for 100 ms and gives 4 MB of gradients.</summary>
    private static async Task StepsAsync(string folder)
    {
        var silos = await TransportProcess.StartSilosAsync(2, folder, parameters: 1_000_000, new WorkerOptions().TensorStreamBytes);
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client => client.UseAdjointDpmDataFolder(folder));
        using var client = builder.Build();
        await client.StartAsync();
        var grains = client.Services.GetRequiredService<IGrainFactory>();
        Console.WriteLine($"Steps of 2 shards on 2 silos: {TransportSilo.ComputeMilliseconds} ms of sleep and 4 MB of gradients a shard; {Steps} steps, files on the disk. Whole step: by the clock of the trial, all else included; its parts are medians.");
        Console.WriteLine();
        Console.WriteLine("| optimiser | gradients | whole step, ms | above the sleep | until all gradients are there | mean and norm | optimiser step and versions written | commit (ledger and state) |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|");
        foreach (var (optimizer, encoding) in new[] { (OptimizerName.Sgd, GradientEncoding.None), (OptimizerName.AdamW, GradientEncoding.None), (OptimizerName.AdamW, GradientEncoding.Bf16) })
        {
            // Either silo may own the trial that is measured.
            var warm = new int[silos.Count];
            for (var i = 0; warm.Min() < WarmSteps && i < MostWarm; i++)
            {
                await SecondsAsync(grains, $"warm-{i}-{optimizer}-{encoding}", optimizer, encoding, WarmSteps);
                var owned = await PhasesAsync();
                warm = [.. warm.Zip(owned, (steps, phases) => steps + (phases.TryGetValue(Phases[0], out var seconds) ? seconds.Length : 0))];
            }
            var few = await SecondsAsync(grains, $"few-{optimizer}-{encoding}", optimizer, encoding, 5);
            await PhasesAsync();
            var many = await SecondsAsync(grains, $"many-{optimizer}-{encoding}", optimizer, encoding, 5 + Steps);
            var phases = (await PhasesAsync()).SelectMany(phases => phases)
                .GroupBy(phase => phase.Key).ToDictionary(group => group.Key, group => group.SelectMany(phase => phase.Value).Select(seconds => seconds * 1e3).Order().ToArray());
            var step = (many - few) / Steps * 1e3;
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"| {optimizer} | {(encoding == GradientEncoding.None ? "fp32" : "bf16")} | {step:f1} | {step - TransportSilo.ComputeMilliseconds:f1} | {string.Join(" | ", Phases.Select(phase => Spread(phases[phase])))} |"));
        }
        Console.WriteLine();
        await client.StopAsync();
        foreach (var silo in silos)
            await silo.DisposeAsync();

        Task<Dictionary<string, double[]>[]> PhasesAsync() => Task.WhenAll(silos.Select(silo => silo.AskAsync<Dictionary<string, double[]>>("phases")));
    }

    private static async Task<double> SecondsAsync(IGrainFactory grains, string id, OptimizerName optimizer, GradientEncoding encoding, int steps)
    {
        var json = ExperimentSpecJson.Serialize(new ExperimentSpec
        {
            Model = new ModelSpec { Path = "/nowhere" },
            Losses = [new LossSpec { Name = LossName.PixelDistance }],
            Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
            Training = new TrainingSpec { Steps = steps, Shards = 2, SamplesPerShard = 1, GradientEncoding = encoding },
            Optimizer = new OptimizerSpec { Name = optimizer },
            HeldOut = new HeldOutSpec { Samples = 1 },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        });
        var experiment = grains.GetGrain<IExperimentGrain>(id);
        await experiment.SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), id));
        while (true)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
            if (await experiment.GetSnapshotAsync() is not { Summary.EndedAt: not null } ended)
                continue;
            return ended.Summary.State == RunState.Succeeded ? (ended.Trials[0].EndedAt!.Value - ended.Trials[0].StartedAt!.Value).TotalSeconds : throw new InvalidOperationException(ended.Reason);
        }
    }

    private static string Spread(IEnumerable<double> values)
    {
        var ordered = values.Order().ToArray();
        return double.IsNaN(ordered[0]) ? "" : string.Create(CultureInfo.InvariantCulture, $"{ordered[ordered.Length / 2]:f1} ({ordered[0]:f1} to {ordered[^1]:f1})");
    }

    private static string Ratio(List<double> ours, List<double> theirs)
    {
        var ratio = ours.Zip(theirs, (a, b) => a / b).Order().ElementAt(ours.Count / 2);
        return double.IsNaN(ratio) ? "" : ratio.ToString("f2", CultureInfo.InvariantCulture);
    }
}
