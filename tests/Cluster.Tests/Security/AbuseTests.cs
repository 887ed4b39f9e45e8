using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Specs;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Cluster.Tests.Security;

/// <summary>
/// Garbage on every port, crowds, and clients that never read. CI throws less of it; <c>ADJOINTDPM_ABUSE=all</c> throws all: 10,000
/// inputs a port, 200 clients. Figures are recorded, not judged, but for what must not grow.
/// </summary>
[Collection(RealCluster.OneAtATime)]
public sealed class AbuseTests(ITestOutputHelper output) : IDisposable
{
    private const int Seed = 8;
    private static readonly bool All = Environment.GetEnvironmentVariable("ADJOINTDPM_ABUSE") == "all";
    private static readonly int Inputs = All ? 10_000 : 2_000;
    private static readonly int Clients = All ? 200 : 12;

    /// <summary>Words that would tell an attacker what runs here, and where.</summary>
    private static readonly string[] Telling = ["   at ", "Exception", "Orleans", "Kestrel", "Microsoft", "System.", ".cs:", "/tmp/"];

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-abuse-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Garbage_OnEveryPort_IsEndured_AndAnswersNothingThatHelps(bool secured)
    {
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, secured ? Secured() : []);
        // What is only loaded at the first of its kind is no leak.
        foreach (var port in Ports(silo))
            await ThrowAsync(port, 64, Seed + 1);
        var (handles, threads, memory) = (silo.Handles, silo.Threads, silo.Memory);
        foreach (var port in Ports(silo))
        {
            var began = TimeProvider.System.GetTimestamp();
            var answers = await ThrowAsync(port, Inputs, Seed);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{port.Name}: {Inputs} inputs in {TimeProvider.System.GetElapsedTime(began).TotalSeconds:f1} s, {answers.Count(answer => answer.Length > 0)} answered"));
            foreach (var answer in answers)
                Assert.DoesNotContain(Telling, telling => answer.Contains(telling, StringComparison.Ordinal));
        }
        // Connections of those who went are closed; nothing is asked of how fast.
        while (silo.Handles > handles + 20)
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, TestContext.Current.CancellationToken);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"handles {handles} to {silo.Handles}, threads {threads} to {silo.Threads}, memory {memory >> 20} to {silo.Memory >> 20} MiB"));
        Assert.True(silo.Threads < threads + 60, $"{threads} threads became {silo.Threads}.");
        Assert.True(silo.Memory < memory + (512L << 20), $"{memory >> 20} MiB became {silo.Memory >> 20} MiB.");
        await WorksAsync(silo, secured);
    }

    [Fact]
    public async Task ThoseWhoSayNothingAndReadNothing_KeepNobodyElseOut()
    {
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, Secured());
        var held = new List<Socket>();
        try
        {
            foreach (var (_, port) in Ports(silo))
                for (var i = 0; i < 100; i++)
                {
                    var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 4096 };
                    held.Add(socket);
                    await socket.ConnectAsync(IPAddress.Loopback, port, TestContext.Current.CancellationToken);
                    // Half of them begin a handshake and leave it there.
                    if (i % 2 == 0)
                        await socket.SendAsync(new byte[] { 22, 3, 1, 2, 0, 1 }, TestContext.Current.CancellationToken);
                }
            await WorksAsync(silo, secured: true);
            // And they are not waited for without end.
            var end = new byte[16];
            foreach (var socket in held)
            {
                await using var stream = new NetworkStream(socket);
                while (await ReceivedAsync(stream, end, TimeSpan.FromMinutes(3)) > 0)
                    continue;
            }
        }
        finally
        {
            held.ForEach(socket => socket.Dispose());
        }
    }

    [Fact]
    public async Task ManyClients_SubmitAndWatch_AndEachSeesEveryEventOnce()
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, Secured());
        var memory = silo.Memory;
        var began = TimeProvider.System.GetTimestamp();
        var experiments = Math.Max(2, Clients / 20);
        var json = ExperimentSpecJson.Serialize(DigitsSpecs.Small with { HeldOut = null, Training = DigitsSpecs.Small.Training with { Steps = 2, Shards = 1 } });
        var seen = await Task.WhenAll(Enumerable.Range(0, Clients).Select(async client =>
        {
            using var host = await ClientAsync(silo, secured: true);
            var experiment = host.Services.GetRequiredService<IGrainFactory>().GetGrain<IExperimentGrain>(FormattableString.Invariant($"e{client % experiments}"));
            // The same spec from many: one begins it, the others are told that it is there.
            await RealCluster.RetryAsync(async () => await experiment.SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), "crowd"), cancellation));
            var sequences = new List<long>();
            await RealCluster.RetryAsync(async () =>
            {
                await foreach (var happened in experiment.WatchAsync(sequences.Count, cancellation))
                    sequences.Add(happened.Sequence);
            });
            await host.StopAsync(cancellation);
            return sequences;
        }));
        Assert.All(seen, sequences => Assert.Equal(Enumerable.Range(1, sequences.Count).Select(n => (long)n), sequences));
        Assert.Equal(experiments, seen.Select((sequences, client) => (client % experiments, sequences.Count)).Distinct().Count());
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Clients} clients, {experiments} experiments: {TimeProvider.System.GetElapsedTime(began).TotalSeconds:f1} s, {seen.Sum(sequences => sequences.Count)} events, memory {memory >> 20} to {silo.Memory >> 20} MiB"));
    }

    /// <summary>Who has a certificate and a token may still send anything: wrong frames, lengths that nothing has, words of other protocols.</summary>
    [Fact]
    public async Task Garbage_BehindAValidCertificateAndToken_IsEndured_AndAnswersNothingThatHelps()
    {
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, Secured());
        var (ofSilo, ofClient) = (Open("silo"), Open("client"));
        var token = (await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "token"), TestContext.Current.CancellationToken)).Trim();
        var (handles, threads, memory) = (0, 0, 0L);
        foreach (var round in new[] { 64, All ? 10_000 : 500 })
            foreach (var port in Ports(silo))
            {
                if (round > 64 && port.Name == "silo")
                    (handles, threads, memory) = (silo.Handles, silo.Threads, silo.Memory);
                var began = TimeProvider.System.GetTimestamp();
                var answers = await ThrowAsync(port, round, Seed + 2, async plain =>
                {
                    var secured = new SslStream(plain);
                    await secured.AuthenticateAsClientAsync((port.Name is "silo" or "tensor" ? ofSilo : ofClient).ClientOptions(_ => { }), TestContext.Current.CancellationToken);
                    if (port.Name == "gateway")
                        await Greeting.SayAsync(secured, token, TestContext.Current.CancellationToken);
                    return secured;
                });
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{port.Name}: {round} inputs in {TimeProvider.System.GetElapsedTime(began).TotalSeconds:f1} s, {answers.Count(answer => answer.Length > 0)} answered"));
                foreach (var answer in answers)
                    Assert.DoesNotContain(Telling, telling => answer.Contains(telling, StringComparison.Ordinal));
            }
        while (silo.Handles > handles + 20)
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, TestContext.Current.CancellationToken);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"handles {handles} to {silo.Handles}, threads {threads} to {silo.Threads}, memory {memory >> 20} to {silo.Memory >> 20} MiB"));
        Assert.True(silo.Threads < threads + 60, $"{threads} threads became {silo.Threads}.");
        Assert.True(silo.Memory < memory + (512L << 20), $"{memory >> 20} MiB became {silo.Memory >> 20} MiB.");
        await WorksAsync(silo, secured: true);
    }

    /// <summary>Users who ask for much and take nothing of it hold what their connection's buffers hold, and nobody up.</summary>
    [Fact]
    public async Task UsersWhoReadNothing_HoldLittle_AndNobodyUp()
    {
        const int Readers = 60;
        var cancellation = TestContext.Current.CancellationToken;
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, Secured());
        using var host = await ClientAsync(silo, secured: true);
        var experiment = host.Services.GetRequiredService<IGrainFactory>().GetGrain<IExperimentGrain>("watched");
        var json = ExperimentSpecJson.Serialize(DigitsSpecs.Small with { HeldOut = null, Training = DigitsSpecs.Small.Training with { Steps = 20 } });
        await RealCluster.RetryAsync(async () => await experiment.SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), "watched"), cancellation));
        var token = (await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "token"), cancellation)).Trim();
        var (memory, threads) = (silo.Memory, silo.Threads);
        var held = new List<IAsyncDisposable>();
        try
        {
            for (var i = 0; i < Readers; i++)
            {
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 4096 };
                await socket.ConnectAsync(IPAddress.Loopback, silo.Ready.HttpPort, cancellation);
                var stream = new SslStream(new NetworkStream(socket, ownsSocket: true));
                held.Add(stream);
                await stream.AuthenticateAsClientAsync(Open("client").ClientOptions(_ => { }), cancellation);
                // A hundred answers are asked for at once, or updates without end.
                var path = i % 2 == 0 ? "/metrics" : "/live/experiments/watched";
                var request = $"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n";
                await stream.WriteAsync(Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat(request, i % 2 == 0 ? 100 : 1))), cancellation);
                // And events of which the first is read and no other.
                var watching = experiment.WatchAsync(0, cancellation).GetAsyncEnumerator(cancellation);
                held.Add(watching);
                Assert.True(await watching.MoveNextAsync());
            }
            await WorksAsync(silo, secured: true);
            while ((await experiment.GetSnapshotAsync(cancellation))!.Summary.EndedAt is null)
                await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, cancellation);
            Assert.Equal(RunState.Succeeded, (await experiment.GetSnapshotAsync(cancellation))!.Summary.State);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Readers} readers of each kind: memory {memory >> 20} to {silo.Memory >> 20} MiB, threads {threads} to {silo.Threads}"));
            Assert.True(silo.Memory < memory + (384L << 20), $"{memory >> 20} MiB became {silo.Memory >> 20} MiB.");
            Assert.True(silo.Threads < threads + 60, $"{threads} threads became {silo.Threads}.");
        }
        finally
        {
            foreach (var reader in held)
                await reader.DisposeAsync();
        }
        await host.StopAsync(cancellation);
    }

    private TlsFolder Open(string role) => TlsFolder.Open(Path.Combine(_folder.FullName, role), needsOwn: true, TimeProvider.System, NullLogger.Instance);

    private string[] Secured()
    {
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), TimeProvider.System.GetUtcNow());
        var token = UsersFile.NewToken();
        UsersFile.Put(Path.Combine(_folder.FullName, "users.json"), "root", Caller.AllProjects, Role.Admin, token);
        SecretFile.Write(Path.Combine(_folder.FullName, "token"), token);
        return [$"--Security:TlsFolder={Path.Combine(_folder.FullName, "silo")}", $"--Security:UsersFile={Path.Combine(_folder.FullName, "users.json")}", $"--Security:ClusterKeyFile={Path.Combine(_folder.FullName, "silo", "cluster.key")}"];
    }

    private async Task<IHost> ClientAsync(SiloProcess silo, bool secured)
    {
        // Without files of settings, each of which would be watched: there are hundreds of clients.
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client =>
        {
            client.UseAdjointDpmGateways([new IPEndPoint(IPAddress.Loopback, silo.Ready.GatewayPort)]);
            if (secured)
                client.UseAdjointDpmCredentials(Path.Combine(_folder.FullName, "client"), Path.Combine(_folder.FullName, "token"));
        });
        var host = builder.Build();
        await host.StartAsync(TestContext.Current.CancellationToken);
        return host;
    }

    /// <summary>It answers still, and a client can list and submit.</summary>
    private async Task WorksAsync(SiloProcess silo, bool secured)
    {
        using var host = await ClientAsync(silo, secured);
        var grains = host.Services.GetRequiredService<IGrainFactory>();
        Assert.NotNull(await grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key).ListAsync(0, 10, TestContext.Current.CancellationToken));
        await host.StopAsync(TestContext.Current.CancellationToken);
    }

    private static IEnumerable<(string Name, int Port)> Ports(SiloProcess silo) =>
        [("silo", silo.Ready.SiloPort), ("gateway", silo.Ready.GatewayPort), ("tensor", silo.Ready.TensorPort), ("HTTP", silo.Ready.HttpPort)];

    /// <summary>Opens a connection for each input, a few at a time, and says what came back.</summary>
    /// <param name="at">Port.</param>
    /// <param name="count">How many.</param>
    /// <param name="seed">Decides what is thrown.</param>
    /// <param name="enter">What comes before it: certificates and tokens.</param>
    private static async Task<string[]> ThrowAsync((string Name, int Port) at, int count, int seed, Func<Stream, Task<Stream>>? enter = null)
    {
        using var few = new SemaphoreSlim(32);
        return await Task.WhenAll(Enumerable.Range(0, count).Select(async i =>
        {
            await few.WaitAsync(TestContext.Current.CancellationToken);
            try
            {
                using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(IPAddress.Loopback, at.Port, TestContext.Current.CancellationToken);
                var plain = new NetworkStream(socket);
                await using var stream = enter is null ? plain : await enter(plain);
                await stream.WriteAsync(Garbage(new Random(seed * 1_000_003 + i), i), TestContext.Current.CancellationToken);
                await stream.FlushAsync(TestContext.Current.CancellationToken);
                if (stream is SslStream secured)
                    await secured.ShutdownAsync();
                socket.Shutdown(SocketShutdown.Send);
                var answer = new byte[4096];
                var length = 0;
                while (length < answer.Length && await ReceivedAsync(stream, answer.AsMemory(length), TimeSpan.FromSeconds(1)) is > 0 and var got)
                    length += got;
                return Encoding.Latin1.GetString(answer, 0, length);
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                // Cut off in the middle of it.
                return "";
            }
            finally
            {
                few.Release();
            }
        }));
    }

    private static async Task<int> ReceivedAsync(Stream stream, Memory<byte> into, TimeSpan patience)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        timeout.CancelAfter(patience);
        try
        {
            return await stream.ReadAsync(into, timeout.Token);
        }
        catch (Exception e) when (e is SocketException or IOException || (e is OperationCanceledException && !TestContext.Current.CancellationToken.IsCancellationRequested))
        {
            return 0;
        }
    }

    /// <summary>Noise, and beginnings of each protocol that go wrong in each of its fields.</summary>
    private static byte[] Garbage(Random random, int kind)
    {
        var noise = new byte[random.Next(1, 2000)];
        random.NextBytes(noise);
        return (kind % 14) switch
        {
            0 => noise,
            1 => [],
            2 => [22, 3, 1, .. Length(random.Next(1 << 16)), 1, .. noise],
            3 => [.. Int(random.Next()), .. Int(random.Next()), .. noise],
            4 => [.. Int(-1), .. Int(int.MinValue), .. noise],
            5 => [.. Int(64), .. Int(0), .. noise],
            // Frames of Orleans as long as they may be, and longer.
            12 => [.. Int(1 << 20), .. Int(random.Next(2) == 0 ? 32 << 20 : int.MaxValue), .. noise],
            13 => [.. Int(random.Next(1, noise.Length + 1)), .. Int(random.Next(0, 64)), .. noise],
            6 => [.. "ADG1"u8, .. Length(random.Next(1 << 16)), .. noise],
            7 => [.. "ADT1"u8, .. noise],
            8 => Encoding.ASCII.GetBytes($"GET /{new string('.', random.Next(1, 40))}/../../etc/passwd HTTP/1.1\r\nHost: {Convert.ToHexString(noise.AsSpan(0, Math.Min(40, noise.Length)))}\r\n\r\n"),
            9 => Encoding.ASCII.GetBytes($"POST /experiments/{Uri.EscapeDataString(Convert.ToHexString(noise))} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n{new string('x', 100)}"),
            10 => Encoding.ASCII.GetBytes("GET /nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " + new string('A', random.Next(1, 8000)) + "\r\n\r\n"),
            _ => [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. noise],
        };
    }

    private static byte[] Int(int number)
    {
        var bytes = new byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, number);
        return bytes;
    }

    private static byte[] Length(int number) => [(byte)(number >> 8), (byte)number];
}
