using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Silo;
using AdjointDpm.Silo.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace AdjointDpm.Bench;

/// <summary>What a user waits for: the first word of a command, the demo, pages about an experiment of many trials, and what a page that is looked at costs a run.</summary>
internal static partial class ClientBench
{
    private const int Runs = 11, Steps = 1000, Shards = 4;

    private static string[] _client = ["dotnet", Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..", "..", "Client", "release", "adpm.dll"))];

    /// <param name="trials">How many the large experiment has.</param>
    /// <param name="demo">Whether to time <c>adpm demo</c> too.</param>
    /// <param name="installed">An installed client; null for the build's.</param>
    public static async Task RunAsync(int trials, bool demo, string? installed)
    {
        if (installed is not null)
            _client = [Path.GetFullPath(installed)];
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Environment.ProcessorCount} processors; load averages before: {Load()}"));
        Console.WriteLine();
        Console.WriteLine("| what | median | most | of |");
        Console.WriteLine("|---|---|---|---|");
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        var (app, gateway, http) = await StartAsync(folder);
        await using (app)
        {
            foreach (var line in new[] { "--help", $"ls --gateway 127.0.0.1:{gateway}", $"config {Example()}" })
            {
                var words = line.Split(' ');
                Row($"first output of `adpm {words[0]}`, ms", await Many(() => FirstOutputAsync(Words(words))));
                Row("the same in a terminal, ms", await Many(() => FirstOutputAsync(InTerminal(words))));
            }

            var grains = app.Services.GetRequiredService<IGrainFactory>();
            await NoOpTrials.RunAsync(grains, "many", NoOpTrials.Spec(trials, 8));
            using var client = new HttpClient { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{http}")) };
            var experiment = grains.GetGrain<IExperimentGrain>("many");
            Row($"{trials} trials: the list of experiments, ms", await Many(() => GetAsync(client, "/")));
            Row($"{trials} trials: the experiment's page, ms", await Many(() => GetAsync(client, "/experiments/many")));
            Row($"{trials} trials: filtered and sorted, ms", await Many(() => GetAsync(client, "/experiments/many?where=" + Uri.EscapeDataString($"seed > {trials / 2} style < 2") + "&sort=heldOut.loss.after&desc=true")));
            Row($"{trials} trials: the last of its pages, ms", await Many(() => GetAsync(client, $"/experiments/many?skip={trials - 100}")));
            Row($"{trials} trials: `adpm trials many --where … --sort …`, ms", await Many(() => WholeAsync(["trials", "many", "--where", $"seed>{trials / 2}", "--sort", "loss", "--gateway", $"127.0.0.1:{gateway}"])));
            Row($"{trials} trials: the snapshot that `adpm show` asks for, ms", await Many(async () => await TimedAsync(async () => await experiment.GetSnapshotAsync())));

            // A page that is looked at is asked for once a second at most.
            await NoOpTrials.RunAsync(grains, "long", NoOpTrials.Spec(1, 1) with { Training = new TrainingSpec { Steps = Steps, Shards = Shards, SamplesPerShard = 1 } });
            await GetAsync(client, "/experiments/long/trials/0");
            Row($"live page of a trial of {Steps} steps, processor ms a refresh", await Many(() => ProcessorAsync(() => GetAsync(client, "/experiments/long/trials/0"))));
            await app.StopAsync();
        }

        if (demo)
            Row("`adpm demo`, s", [await DemoAsync()]);
        Console.WriteLine();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Load averages after: {Load()}"));
        Directory.Delete(folder, recursive: true);
    }

    private static async Task<(WebApplication App, int Gateway, int Http)> StartAsync(string folder)
    {
        var (gateway, http) = (TransportSilo.FreePort(), TransportSilo.FreePort());
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, http));
        builder.Logging.ClearProviders();
        builder.Services.AddSingleton(TimeProvider.System);
        builder.UseOrleans(silo =>
        {
            silo.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (AdjointDpmCluster.ClusterId, AdjointDpmCluster.ServiceId));
            silo.Configure<EndpointOptions>(options => (options.AdvertisedIPAddress, options.SiloPort, options.GatewayPort) = (IPAddress.Loopback, TransportSilo.FreePort(), gateway));
            silo.AddAdjointDpm(folder, new WorkerOptions());
            silo.Services.AddSingleton<IGradientEngineFactory>(new NoOpTrials.Engines(new Dictionary<string, double> { ["loss"] = 1.25, ["style"] = 0.5, ["content"] = 0.75, ["reward"] = 2, ["accuracy"] = 1, ["kl"] = 0.0625 }));
            silo.UseAdjointDpmFiles(folder, AdjointDpmCluster.ClusterId);
        });
        var app = builder.Build();
        app.MapWeb(new SiloHostOptions());
        await app.StartAsync();
        return (app, gateway, http);
    }

    private static async Task<List<double>> Many(Func<Task<double>> measure)
    {
        await measure();
        var times = new List<double>();
        for (var i = 0; i < Runs; i++)
            times.Add(await measure());
        return times;
    }

    private static void Row(string what, List<double> values)
    {
        values.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {what} | {values[values.Count / 2]:0.#} | {values[^1]:0.#} | {values.Count} |"));
    }

    private static Task<double> GetAsync(HttpClient client, string path) => TimedAsync(async () =>
    {
        using var answer = await client.GetAsync(new Uri(path, UriKind.Relative));
        answer.EnsureSuccessStatusCode();
        return await answer.Content.ReadAsStringAsync();
    });

    private static async Task<double> TimedAsync<T>(Func<Task<T>> work)
    {
        var clock = Stopwatch.StartNew();
        _ = await work();
        return clock.Elapsed.TotalMilliseconds;
    }

    /// <summary>Processor time of this process, the asking included.</summary>
    private static async Task<double> ProcessorAsync(Func<Task<double>> work)
    {
        var before = Environment.CpuUsage.TotalTime;
        await work();
        return (Environment.CpuUsage.TotalTime - before).TotalMilliseconds;
    }

    private static async Task<double> FirstOutputAsync(ProcessStartInfo start)
    {
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        // What puts a terminal into its mode nobody sees. Nothing to list is told on the other stream, at the end.
        var (said, next) = (new StringBuilder(), new char[1]);
        while (await process.StandardOutput.ReadAsync(next, 0, 1) > 0 && string.IsNullOrWhiteSpace(TerminalControl().Replace(said.Append(next).ToString(), "")))
        {
        }
        var took = clock.Elapsed.TotalMilliseconds;
        await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return took;
    }

    private static Task<double> WholeAsync(string[] words) => TimedAsync(async () =>
    {
        using var process = Process.Start(Words(words))!;
        var told = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? told : throw new InvalidOperationException(await process.StandardError.ReadToEndAsync());
    });

    private static async Task<double> DemoAsync()
    {
        var output = Directory.CreateTempSubdirectory("adjointdpm-demo-").FullName;
        var seconds = await WholeAsync(["demo", "--output", output]) / 1000;
        if (!File.Exists(Directory.GetFiles(output, "report.html", SearchOption.AllDirectories).SingleOrDefault()))
            throw new InvalidOperationException("The demo left no page.");
        Directory.Delete(output, recursive: true);
        return seconds;
    }

    [GeneratedRegex(@"\x1b(\[[0-9;?]*([a-zA-Z]|$)|=|>|$)")]
    private static partial Regex TerminalControl();

    private static ProcessStartInfo Words(string[] words) => Piped(_client[0], [.. _client[1..], .. words]);

    /// <summary>The same with a terminal of its own (util-linux's script) as standard output and error.</summary>
    private static ProcessStartInfo InTerminal(string[] words) => Piped("script", ["--quiet", "--return", "--command", string.Join(' ', ["exec", .. _client, .. words]), "/dev/null"]);

    private static ProcessStartInfo Piped(string program, string[] arguments) => new(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, Environment = { ["TERM"] = "xterm-256color" } };

    private static string Example()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "AdjointDpm.sln")))
            folder = folder.Parent;
        return Path.Combine(folder!.FullName, "examples", "stylize-digits.yaml");
    }

    private static string Load() => File.Exists("/proc/loadavg") ? string.Join(' ', File.ReadAllText("/proc/loadavg").Split(' ').Take(3)) : "not told here";
}
