using System.Globalization;
using System.Net;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Silo;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace AdjointDpm.Bench;

/// <summary>What metrics cost: processor time of all that is counted in a step, and the time of a scrape while many trials run. A silo in this process, with the program's own exporter.</summary>
internal static class MetricsCost
{
    private const int Shards = 8, Scrapes = 100, Calls = 50_000;

    public static async Task RunAsync(int trials)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        var http = TransportSilo.FreePort();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, http));
        builder.AddTelemetry(new TelemetryHostOptions(), "bench");
        builder.Logging.ClearProviders();
        builder.UseOrleans(silo =>
        {
            silo.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = ("bench", "bench"));
            silo.Configure<EndpointOptions>(options => (options.AdvertisedIPAddress, options.SiloPort, options.GatewayPort) = (IPAddress.Loopback, TransportSilo.FreePort(), TransportSilo.FreePort()));
            silo.AddAdjointDpm(folder, new WorkerOptions());
            silo.Services.AddSingleton<IGradientEngineFactory, NoOpTrials.Engines>();
            silo.UseAdjointDpmFiles(folder, "bench");
        });
        await using var app = builder.Build();
        app.MapEndpoints();
        await app.StartAsync();
        using var client = new HttpClient { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{http}")) };

        // Trials that have been: whatever is kept of them is in every scrape from here on.
        var grains = app.Services.GetRequiredService<IGrainFactory>();
        await NoOpTrials.RunAsync(grains, "ended", NoOpTrials.Spec(trials, 8));
        var instruments = app.Services.GetRequiredService<AdjointDpmInstruments>();
        Console.WriteLine("| what | |");
        Console.WriteLine("|---|---|");
        Row($"scrape, {trials} trials ended, none running", await ScrapeAsync(client));
        var live = Enumerable.Range(0, trials).Select(i => instruments.TrialLives("stylize-digits-54b8ff82", i)).ToList();
        var metrics = new Dictionary<string, double> { ["loss"] = 1.234567890123, ["gradientNorm"] = 0.1234567890123, ["gramStyle"] = 0.98765432101, ["crossEntropy"] = 0.5678901234, ["heldOut.loss"] = 1.1234567890 };
        foreach (var trial in live)
            trial.Show(new LiveTrialValues(metrics, 17, 100, 1, 1e-4, TimeProvider.System.GetUtcNow()));
        Row($"scrape, {trials} trials ended, {trials} running", await ScrapeAsync(client));
        foreach (var trial in live)
            trial.Dispose();

        using var one = instruments.TrialLives("one", 0);
        Step(instruments, one, metrics, 1000);
        var before = Environment.CpuUsage.TotalTime;
        Step(instruments, one, metrics, Calls);
        var counted = (Environment.CpuUsage.TotalTime - before).TotalMicroseconds / Calls;
        Row($"counting a step of {Shards} shards, processor time", string.Create(CultureInfo.InvariantCulture, $"{counted:f1} µs"));
        // The shortest step that there can be: its workers compute nothing. What is counted is held against the step alone, without the rest of its trial.
        const int Steps = 1000;
        var spec = NoOpTrials.Spec(1, 1);
        await NoOpTrials.RunAsync(grains, "timed", spec with { Training = spec.Training with { Steps = Steps, Shards = Shards } });
        var times = (await grains.GetGrain<IExperimentGrain>("timed").GetEventsAsync(0, 0, int.MaxValue)).Where(happened => happened.Kind == EventKind.StepCommitted).Select(happened => happened.Time).ToList();
        var step = (times.Max() - times.Min()).TotalMicroseconds / (times.Count - 1);
        Row($"a step of {Shards} shards that computes nothing", string.Create(CultureInfo.InvariantCulture, $"{step / 1000:f2} ms"));
        Row("counting's share of that", string.Create(CultureInfo.InvariantCulture, $"{100 * counted / step:f2} %"));
        await app.StopAsync();
        Directory.Delete(folder, recursive: true);
    }

    private static void Row(string what, string value) => Console.WriteLine($"| {what} | {value} |");

    private static async Task<string> ScrapeAsync(HttpClient client)
    {
        var (times, cpu, length) = (new List<double>(), TimeSpan.Zero, 0);
        for (var i = 0; i < Scrapes + 10; i++)
        {
            // As Prometheus asks, which gets the larger of the two formats.
            using var request = new HttpRequestMessage(HttpMethod.Get, AdjointDpmCluster.MetricsPath);
            request.Headers.TryAddWithoutValidation("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
            var (started, used) = (TimeProvider.System.GetTimestamp(), Environment.CpuUsage.TotalTime);
            using var answer = await client.SendAsync(request);
            length = (await answer.Content.ReadAsByteArrayAsync()).Length;
            if (i < 10)
                continue;
            times.Add(TimeProvider.System.GetElapsedTime(started).TotalMilliseconds);
            cpu += Environment.CpuUsage.TotalTime - used;
        }
        times.Sort();
        return string.Create(CultureInfo.InvariantCulture, $"median {times[Scrapes / 2]:f1} ms, 9 of 10 within {times[Scrapes * 9 / 10]:f1} ms, processor time {cpu.TotalMilliseconds / Scrapes:f1} ms, {length / 1024} KiB");
    }

    /// <summary>All that is told in a step, by coordinator and workers.</summary>
    private static void Step(AdjointDpmInstruments instruments, LiveTrial live, Dictionary<string, double> metrics, int times)
    {
        var statistics = new WorkStatistics { Samples = 4, ForwardNfe = 40, BackwardNfe = 40, Vjps = 40, PeakLiveTensors = 30, ForwardSeconds = 0.1, BackwardSeconds = 0.3, TotalSeconds = 0.5 };
        for (var i = 0; i < times; i++)
        {
            using (var load = instruments.RoundBegins())
                for (var shard = 0; shard < Shards; shard++)
                {
                    load.Show(shard + 1, Shards - shard - 1);
                    instruments.WorkWaits(+1);
                    instruments.WorkWaits(-1);
                    instruments.WorkerBusy("silo-0/cpu:0", +1);
                    instruments.WorkerBusy("silo-0/cpu:0", -1);
                    instruments.WorkFinished(Grains.Trials.WorkKind.Gradient, statistics);
                    instruments.GradientReceived(4000, 4000);
                    instruments.ShardContributed(ContributionOutcome.Accepted);
                }
            instruments.StepCommitted(new StepSeconds(0.5, 0.001, 0.001, 0.002));
            live.Show(new LiveTrialValues(new Dictionary<string, double>(metrics), i, times, 1, 1e-4, TimeProvider.System.GetUtcNow()));
        }
    }
}
