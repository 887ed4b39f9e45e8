using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Orleans.Configuration;

namespace AdjointDpm.Bench;

/// <summary>This program as a silo in a process of its own, told by lines on its input what to offer and fetch.</summary>
internal static class TransportSilo
{
    public const string Argument = "transport-silo";
    public const int ComputeMilliseconds = 100;

    public static async Task RunAsync(string name, string folder, int parameters, int streamBytes, string? certificates = null)
    {
        using var phases = new StepPhases();
        using var host = Host(name, folder, parameters, streamBytes, certificates: certificates);
        await host.StartAsync();
        var transfer = host.Services.GetRequiredService<TensorTransfer>();
        var gradients = new Dictionary<int, byte[]>();
        TensorReference? offered = null;
        Console.WriteLine("ready");
        while (Console.ReadLine() is { } line)
        {
            var words = line.Split(' ', 2);
            Console.WriteLine(words[0] switch
            {
                "offer" => JsonSerializer.Serialize(offered = transfer.Offer(Gradient(words[1].Split(' ')))),
                "withdraw" => Withdraw(),
                "fetch" => await FetchAsync(JsonSerializer.Deserialize<TensorReference>(words[1])!),
                "phases" => JsonSerializer.Serialize(phases.Take()),
                _ => throw new ArgumentException(line),
            });
        }
        await host.StopAsync();

        byte[] Gradient(string[] words)
        {
            var length = int.Parse(words[0]);
            if (!gradients.TryGetValue(length, out var bytes))
            {
                var (random, numbers) = (new Random(int.Parse(words[1])), new float[length / sizeof(float)]);
                foreach (ref var number in numbers.AsSpan())
                    number = random.NextSingle() - 0.5f;
                gradients[length] = bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(numbers.AsSpan()).ToArray();
            }
            return bytes;
        }

        string Withdraw()
        {
            transfer.Withdraw(offered!);
            return "true";
        }

        async Task<string> FetchAsync(TensorReference reference)
        {
            await transfer.FetchAsync(reference, CancellationToken.None);
            return "true";
        }
    }

    public static IHost Host(string name, string folder, int parameters, int streamBytes, int computeMilliseconds = ComputeMilliseconds, string? certificates = null)
    {
        var builder = Microsoft.Extensions.Hosting.Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleans(silo =>
        {
            silo.Configure<SiloOptions>(options => options.SiloName = name);
            silo.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (AdjointDpmCluster.ClusterId, AdjointDpmCluster.ServiceId));
            silo.Configure<EndpointOptions>(options => (options.AdvertisedIPAddress, options.SiloPort, options.GatewayPort) = (IPAddress.Loopback, FreePort(), FreePort()));
            silo.AddAdjointDpm(folder, new WorkerOptions { TensorStreamBytes = streamBytes }).AddTensorPort(new IPEndPoint(IPAddress.Loopback, 0), IPAddress.Loopback);
            silo.Services.AddSingleton<IGradientEngineFactory>(new Engines(parameters, computeMilliseconds));
            silo.UseAdjointDpmFiles(folder, AdjointDpmCluster.ClusterId);
            if (certificates is not null)
            {
                // As a silo with Security:TlsFolder does it.
                var tls = TlsFolder.Open(certificates, needsOwn: true, TimeProvider.System, NullLogger.Instance);
                silo.Services.AddSingleton(tls);
                silo.Configure<SiloConnectionOptions>(options =>
                {
                    options.ConfigureSiloInboundConnection(port => port.Use(next => SecureTransport.Listen(next, tls, required: true, [TlsFolder.Silo], null, "silo", NullLogger.Instance)));
                    options.ConfigureSiloOutboundConnection(port => port.Use(next => SecureTransport.Dial(next, tls, null, NullLogger.Instance)));
                });
            }
        });
        return builder.Build();
    }

    internal static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Durations of the steps that were committed on this silo, by phase.</summary>
    private sealed class StepPhases : IDisposable
    {
        private readonly MeterListener _listener = new();
        private readonly Dictionary<string, List<double>> _seconds = [];

        public StepPhases()
        {
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "adjointdpm.step.duration")
                    listener.EnableMeasurementEvents(instrument);
            };
            _listener.SetMeasurementEventCallback<double>((_, seconds, tags, _) =>
            {
                lock (_seconds)
                    foreach (var (key, value) in tags)
                        if (key == "phase")
                            (_seconds.TryGetValue((string)value!, out var list) ? list : _seconds[(string)value!] = []).Add(seconds);
            });
            _listener.Start();
        }

        public Dictionary<string, List<double>> Take()
        {
            lock (_seconds)
            {
                var taken = _seconds.ToDictionary(pair => pair.Key, pair => pair.Value);
                _seconds.Clear();
                return taken;
            }
        }

        public void Dispose() => _listener.Dispose();
    }

    private sealed class Engines(int parameters, int computeMilliseconds) : IGradientEngineFactory
    {
        public IGradientEngine Create(string device) => new Sleeping(parameters, computeMilliseconds);
    }

    private sealed class Sleeping(int parameters, int computeMilliseconds) : IGradientEngine
    {
        private static readonly Dictionary<string, double> Sums = new() { ["loss"] = 1 };

        /// <summary>What is handed over is read until its step ends, what is left of its encoding until the next but one does, and the steps after have others: memory as an engine on a device has it ready to copy into.</summary>
        private readonly byte[][] _gradients = [.. Enumerable.Range(0, 24).Select(_ => new byte[parameters * sizeof(float)])];

        private int _next;

        public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken) => new(new byte[parameters * sizeof(float)], new string('0', 64));

        public GradientProofReport Prove(TrialPlan plan, ParameterVersion version, CancellationToken cancellationToken) => throw new NotSupportedException("Nothing is proven here.");

        public ShardGradient Differentiate(TrialPlan plan, ParameterVersion version, int step, int shard, CancellationToken cancellationToken)
        {
            var started = System.Diagnostics.Stopwatch.StartNew();
            var bytes = _gradients[_next++ % _gradients.Length];
            System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes.AsSpan()).Fill(1e-3f * (step + shard + 1));
            // The sleep is the computation, what is written above part of it.
            cancellationToken.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(computeMilliseconds) - started.Elapsed is { Ticks: > 0 } left ? left : TimeSpan.Zero);
            return new(bytes, 1, Sums, new WorkStatistics());
        }

        public Evaluation Evaluate(TrialPlan plan, ParameterVersion version, int firstSample, int samples, CancellationToken cancellationToken) => new(samples, Sums, new WorkStatistics());

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
