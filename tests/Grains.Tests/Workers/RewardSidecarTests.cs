using System.Diagnostics;
using System.Net;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Losses;
using AdjointDpm.Tests.Models;
using Microsoft.Extensions.Time.Testing;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class RewardSidecarTests
{
    private static readonly Uri First = new("http://first:1"), Second = new("http://second:2/deep");

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public void Loss_OfASidecar_HasItsScoreAndGradient()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var x = randn(2, 3, 4, 5);
        using var server = new Server((request, body) =>
        {
            Assert.Equal("http://first:1/v1/reward?gradient=true", request.RequestUri!.AbsoluteUri);
            return Answer(body);
        });
        var loss = server.Ask(First).AsLoss(Cancellation);
        var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
        Assert.True(((x / 2 - 0.25).pow(2).mean([1, 2, 3]) - value).abs().max().ToDouble() < 1e-6);
        Assert.True(((x / 2 - 0.25) / 60 - gradient).abs().max().ToDouble() < 1e-6);
        Assert.Single(server.Asked);
    }

    /// <summary>An address that specs may name must not lead a silo to one that they may not.</summary>
    [Fact]
    public async Task Ask_RedirectedElsewhere_DoesNotGoThere_AndSaysSo()
    {
        var forbidden = 0;
        using var inner = new HttpListenerOn(context =>
        {
            Interlocked.Increment(ref forbidden);
            context.Response.Close();
        });
        using var outer = new HttpListenerOn(context =>
        {
            (context.Response.StatusCode, context.Response.RedirectLocation) = (307, inner.Address + "latest/meta-data");
            context.Response.Close();
        });
        using var http = RewardSidecar.NewClient();
        var sidecar = new RewardSidecar(http, [new Uri(outer.Address)], new RewardSidecarOptions { Attempts = 2 }, TimeProvider.System);
        Assert.Contains("it answers 307", (await Assert.ThrowsAsync<InvalidDataException>(() => sidecar.AskAsync([1], true, 10, Cancellation))).Message, StringComparison.Ordinal);
        Assert.Equal(0, forbidden);
    }

    [Fact]
    public async Task Ask_FailingAddresses_GoesRoundAndWaitsLonger()
    {
        var time = new FakeTimeProvider();
        using var server = new Server((request, _) => throw new HttpRequestException("refused"), time);
        var sidecar = server.Ask(new RewardSidecarOptions { Attempts = 6, BackOff = TimeSpan.FromSeconds(1), LongestBackOff = TimeSpan.FromSeconds(1.5) }, First, Second);
        var asked = sidecar.AskAsync([1], true, 10, Cancellation);
        // Each round of two is followed by a wait, of 1 and then 1.5 seconds.
        Assert.Equal(2, server.Asked.Count);
        time.Advance(TimeSpan.FromSeconds(0.9));
        Assert.Equal(2, server.Asked.Count);
        time.Advance(TimeSpan.FromSeconds(0.2));
        await server.Reached(4);
        // The second wait begins on another thread; how long it is shows in what had to be let pass.
        var (begun, passed) = (time.GetUtcNow(), TimeSpan.Zero);
        while (!asked.IsCompleted)
        {
            time.Advance(TimeSpan.FromSeconds(0.1));
            await Task.Yield();
            passed = time.GetUtcNow() - begun;
        }

        Assert.True(passed >= TimeSpan.FromSeconds(1.4), $"waited {passed}");
        var error = await Assert.ThrowsAsync<IOException>(() => asked);
        Assert.Contains("after 6 attempts", error.Message, StringComparison.Ordinal);
        Assert.Contains("refused", error.Message, StringComparison.Ordinal);
        Assert.Equal(["first", "second", "first", "second", "first", "second"], server.Asked.Select(u => u.Host));
        Assert.Equal("/deep/v1/reward", server.Asked[1].AbsolutePath);
    }

    [Theory]
    [InlineData(HttpStatusCode.ServiceUnavailable)]
    [InlineData(HttpStatusCode.TooManyRequests)]
    public async Task Ask_BusyAddress_TheNextOneIsAskedAndStays(HttpStatusCode status)
    {
        using var server = new Server((request, _) => request.RequestUri!.Host == "first" ? new(status) : new(HttpStatusCode.OK) { Content = new ByteArrayContent([7]) });
        var sidecar = server.Ask(First, Second);
        Assert.Equal([7], (await sidecar.AskAsync([1], false, 10, Cancellation)).Answer);
        Assert.Equal([7], (await sidecar.AskAsync([1], false, 10, Cancellation)).Answer);
        Assert.Equal(["first", "second", "second"], server.Asked.Select(u => u.Host));
        Assert.Equal("?gradient=false", server.Asked[0].Query);
    }

    [Fact]
    public async Task Ask_RefusedRequest_IsAnErrorAtOnceWithItsWords()
    {
        using var server = new Server((_, _) => new(HttpStatusCode.BadRequest) { Content = new StringContent("three channels, please") });
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => server.Ask(First, Second).AskAsync([1], true, 10, Cancellation));
        Assert.Contains("answers 400: three channels, please", error.Message, StringComparison.Ordinal);
        Assert.Single(server.Asked);
    }

    [Fact]
    public async Task Ask_EndlessAnswer_IsCutOff()
    {
        using var server = new Server((_, _) => new(HttpStatusCode.OK) { Content = new ByteArrayContent(new byte[1_000_000]) });
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => server.Ask(First).AskAsync([1], true, 1000, Cancellation));
        Assert.Contains("more than 1000 bytes", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ask_SilentAddress_TimesOutAndTheNextAnswers()
    {
        var time = new FakeTimeProvider();
        using var server = new Server((request, _) => request.RequestUri!.Host == "first" ? null : new(HttpStatusCode.OK) { Content = new ByteArrayContent([7]) }, time);
        var asked = server.Ask(new RewardSidecarOptions { Timeout = TimeSpan.FromSeconds(5) }, First, Second).AskAsync([1], true, 10, Cancellation);
        await server.Reached(1);
        Assert.False(asked.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal([7], (await asked).Answer);
    }

    [Fact]
    public async Task Ask_Cancelled_IsCancelledAtOnce()
    {
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        using var server = new Server((_, _) => null);
        var asked = server.Ask(First, Second).AskAsync([1], true, 10, cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
        Assert.Single(server.Asked);
    }

    [Fact]
    public void Loss_AnswersWithoutSense_AreNamed()
    {
        using var scope = NewDisposeScope();
        var x = randn(2, 3, 4, 4);
        string Said(Func<byte[], byte[]> answer)
        {
            using var server = new Server((_, body) => new(HttpStatusCode.OK) { Content = new ByteArrayContent(answer(body)) });
            return Assert.Throws<InvalidDataException>(() => Vjp.Of(server.Ask(First).AsLoss(Cancellation).PerSample, x, null)).Message;
        }

        Assert.Contains("no safetensors", Said(_ => "<html>"u8.ToArray()), StringComparison.Ordinal);
        Assert.Contains("no safetensors", Said(_ => "<html>a longer page</html>"u8.ToArray()), StringComparison.Ordinal);
        Assert.Contains("without 'score'; it has images", Said(body => body), StringComparison.Ordinal);
        Assert.Contains("more than the 100", Assert.Throws<InvalidDataException>(() => new RewardSidecar(new HttpClient(), [First], new() { MaximumRequest = 100 }, TimeProvider.System).AsLoss(Cancellation).PerSample(x)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new RewardSidecar(new HttpClient(), [], new(), TimeProvider.System));
        Assert.Throws<ArgumentException>(() => new RewardSidecar(new HttpClient(), [new("ftp://x")], new(), TimeProvider.System));
    }

    /// <summary>The example server, over a real connection.</summary>
    [Fact]
    public async Task Example_InPython_PassesTheCheckOfRewards()
    {
        var start = new ProcessStartInfo("python3", [Path.Combine(ReferenceFolder.Root(), "examples", "rewards", "sidecar.py"), "0"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        Process? python = null;
        try
        {
            python = Process.Start(start);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("There is no python3 here.");
        }

        using (python)
        {
            try
            {
                var line = await python!.StandardOutput.ReadLineAsync(Cancellation);
                Assert.StartsWith("listening on ", line, StringComparison.Ordinal);
                using var http = new HttpClient();
                var sidecar = new RewardSidecar(http, [new(line!["listening on ".Length..])], new(), TimeProvider.System);
                Check(sidecar);
            }
            finally
            {
                python!.Kill();
            }
        }

        static void Check(RewardSidecar sidecar)
        {
            using var scope = NewDisposeScope();
            manual_seed(2);
            var report = RewardCheck.Run(sidecar.AsLoss(Cancellation), randn(3, 3, 8, 8));
            Assert.Empty(report.Problems);
            Assert.True(report.Deterministic && report.GradientNorm > 0);
        }
    }

    // -mean (x − ¾)² with its gradient, as the example computes it.
    private static HttpResponseMessage Answer(byte[] body) => new(HttpStatusCode.OK) { Content = new ByteArrayContent(Answered(body)) };

    private static byte[] Answered(byte[] body)
    {
        using var scope = NewDisposeScope();
        var folder = Directory.CreateTempSubdirectory("adjointdpm-sidecar-");
        try
        {
            var (asked, answered) = (Path.Combine(folder.FullName, "asked"), Path.Combine(folder.FullName, "answered"));
            File.WriteAllBytes(asked, body);
            using (var file = Formats.SafetensorsFile.Open(asked))
            {
                var x = file.Read(RewardWire.Images);
                var difference = x - 0.75;
                Formats.SafetensorsWriter.Write(answered, new Dictionary<string, Tensor> { [RewardWire.Score] = -difference.pow(2).mean([1, 2, 3]), [RewardWire.Gradient] = difference * (-2.0 * x.shape[0] / x.numel()) });
            }

            return File.ReadAllBytes(answered);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Answers by a function; null for never.</summary>
    internal sealed class Server(Func<HttpRequestMessage, byte[], HttpResponseMessage?> answer, TimeProvider? time = null) : HttpMessageHandler
    {
        private readonly Lock _gate = new();
        private readonly List<(int Count, TaskCompletionSource Done)> _waiting = [];

        public List<Uri> Asked { get; } = [];

        public RewardSidecar Ask(params Uri[] addresses) => Ask(new RewardSidecarOptions { BackOff = TimeSpan.FromMilliseconds(1) }, addresses);

        public RewardSidecar Ask(RewardSidecarOptions options, params Uri[] addresses) => new(new HttpClient(this, disposeHandler: false) { Timeout = System.Threading.Timeout.InfiniteTimeSpan }, addresses, options, time ?? TimeProvider.System);

        public Task Reached(int count)
        {
            lock (_gate)
            {
                if (Asked.Count >= count)
                    return Task.CompletedTask;
                var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                _waiting.Add((count, done));
                return done.Task;
            }
        }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            lock (_gate)
            {
                Asked.Add(request.RequestUri!);
                foreach (var (count, done) in _waiting.Where(w => w.Count <= Asked.Count))
                    done.TrySetResult();
            }

            if (answer(request, await request.Content!.ReadAsByteArrayAsync(cancellationToken)) is { } response)
                return response;
            var never = new TaskCompletionSource<HttpResponseMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
            await using var cancelled = cancellationToken.Register(() => never.TrySetCanceled(cancellationToken));
            return await never.Task;
        }
    }

    /// <summary>The same reward behind a real address, in this process.</summary>
    internal sealed class Listening : IAsyncDisposable
    {
        private readonly HttpListener _listener = new();
        private readonly Task _serving;

        public Listening()
        {
            // A port that was free a moment ago; another one if it no longer is.
            for (var attempt = 0; ; attempt++)
            {
                using var probe = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
                probe.Start();
                Address = $"http://127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port}/";
                probe.Stop();
                _listener.Prefixes.Clear();
                _listener.Prefixes.Add(Address);
                try
                {
                    _listener.Start();
                    break;
                }
                catch (HttpListenerException) when (attempt < 5)
                {
                }
            }

            _serving = ServeAsync();
        }

        public string Address { get; }

        public int Asked { get; private set; }

        public async ValueTask DisposeAsync()
        {
            _listener.Stop();
            await _serving;
            _listener.Close();
        }

        private async Task ServeAsync()
        {
            while (_listener.IsListening)
            {
                HttpListenerContext context;
                try
                {
                    context = await _listener.GetContextAsync();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return; // stopped
                }

                Asked++;
                using var body = new MemoryStream();
                await context.Request.InputStream.CopyToAsync(body);
                var answer = Answered(body.ToArray());
                context.Response.ContentLength64 = answer.Length;
                await context.Response.OutputStream.WriteAsync(answer);
                context.Response.Close();
            }
        }
    }

    /// <summary>A real port of this machine: redirections are followed below of what a handler of tests sees.</summary>
    private sealed class HttpListenerOn : IDisposable
    {
        private readonly HttpListener _listener = new();

        public HttpListenerOn(Action<HttpListenerContext> answer)
        {
            using (var free = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0))
            {
                free.Start();
                Address = FormattableString.Invariant($"http://127.0.0.1:{((IPEndPoint)free.LocalEndpoint).Port}/");
            }
            _listener.Prefixes.Add(Address);
            _listener.Start();
            _ = AnswerAsync(answer);
        }

        public string Address { get; }

        public void Dispose() => _listener.Close();

        private async Task AnswerAsync(Action<HttpListenerContext> answer)
        {
            while (_listener.IsListening)
                try
                {
                    answer(await _listener.GetContextAsync());
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }
        }
    }
}
