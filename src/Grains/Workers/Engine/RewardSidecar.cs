using System.Net;
using System.Net.Http.Headers;
using AdjointDpm.Losses;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>How a sidecar is asked.</summary>
internal sealed record RewardSidecarOptions
{
    /// <summary>Longest wait for one answer.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Requests for one batch, over all addresses, before it is given up.</summary>
    public int Attempts { get; init; } = 6;

    /// <summary>Wait after every address has failed once; doubles each time.</summary>
    public TimeSpan BackOff { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Longest wait between two rounds.</summary>
    public TimeSpan LongestBackOff { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Most bytes of a request.</summary>
    public long MaximumRequest { get; init; } = 256L << 20;

    /// <summary>Values of the pictures that the sidecar takes.</summary>
    public PixelRange Range { get; init; }

    /// <summary>Bearer token that it wants; null for none.</summary>
    public string? Token { get; init; }

    /// <summary>Whether its scores are better the higher they are.</summary>
    public bool Maximise { get; init; } = true;
}

/// <summary>A reward in a process of its own: <c>POST {address}/v1/reward?gradient=true</c> with pictures, scores and gradients back (<see cref="RewardWire"/>).</summary>
/// <remarks>
/// Several addresses are copies of one reward. A batch goes to one of them; the next one is asked when it fails, and after all have failed there is a wait that doubles. Addresses that do not
/// answer, time-outs, 429 and 5xx are tried again; another 4xx, or an answer that makes no sense, would be the same again and is an error at once.
/// The device's own thread waits: nothing else could be computed on it meanwhile.
/// </remarks>
internal sealed class RewardSidecar
{
    private readonly HttpClient _http;
    private readonly Uri[] _addresses;
    private readonly RewardSidecarOptions _options;
    private readonly TimeProvider _time;
    private int _next;

    /// <summary>What sidecars are asked by. It follows no redirection: an address that may be called must not lead to one that may not.</summary>
    public static HttpClient NewClient() => new(new SocketsHttpHandler { AllowAutoRedirect = false }) { Timeout = Timeout.InfiniteTimeSpan };

    /// <param name="http">Not owned; its own time-out should be infinite.</param>
    /// <param name="addresses">Where copies of the reward listen, such as http://127.0.0.1:8900.</param>
    /// <param name="options">How they are asked.</param>
    /// <param name="time">Clock of time-outs and waits.</param>
    public RewardSidecar(HttpClient http, IReadOnlyList<Uri> addresses, RewardSidecarOptions options, TimeProvider time)
    {
        if (addresses.Count == 0)
            throw new ArgumentException("No address of a sidecar is given.", nameof(addresses));
        if (addresses.FirstOrDefault(a => !a.IsAbsoluteUri || a.Scheme is not ("http" or "https")) is { } odd)
            throw new ArgumentException($"'{odd}' is no address of a sidecar; give one such as http://127.0.0.1:8900.", nameof(addresses));
        (_http, _options, _time) = (http, options, time);
        _addresses = [.. addresses.Select(a => a.AbsoluteUri.EndsWith('/') ? a : new Uri(a.AbsoluteUri + "/"))];
    }

    /// <summary>The reward as a loss; asking it waits for the sidecar.</summary>
    public SampleLoss AsLoss(CancellationToken cancellation) => new ExternalRewardLoss(
        (images, want) =>
        {
            var body = RewardWire.Ask(images);
            if (body.Length > _options.MaximumRequest)
                throw new InvalidDataException($"Pictures [{string.Join(", ", images.shape)}] take {body.Length} bytes, more than the {_options.MaximumRequest} that a sidecar is sent. Use smaller shards.");
            var (address, answer) = AskAsync(body, want, RewardWire.MaximumAnswer(images), cancellation).GetAwaiter().GetResult();
            return RewardWire.Answer(address.AbsoluteUri, answer);
        },
        _options.Range,
        _options.Maximise,
        string.Join(", ", _addresses.Select(a => a.AbsoluteUri)));

    /// <summary>Bytes out, bytes in; no tensor is alive across a wait.</summary>
    internal async Task<(Uri Address, byte[] Answer)> AskAsync(byte[] body, bool wantGradients, long limit, CancellationToken cancellation)
    {
        var failures = new List<string>();
        var wait = _options.BackOff;
        for (var attempt = 1; ; attempt++)
        {
            var address = _addresses[_next];
            try
            {
                return (address, await SendAsync(address, body, wantGradients, limit, cancellation).ConfigureAwait(false));
            }
            catch (Exception error) when (error is HttpRequestException or IOException || (error is OperationCanceledException && !cancellation.IsCancellationRequested))
            {
                failures.Add($"{address}: {(error is OperationCanceledException ? $"no answer in {_options.Timeout.TotalSeconds:g} s" : error.Message)}");
                _next = (_next + 1) % _addresses.Length;
            }

            if (attempt >= _options.Attempts)
                throw new IOException($"No sidecar answers after {attempt} attempts. {string.Join(" ", failures.TakeLast(_addresses.Length))} Is it running? examples/rewards/sidecar.py is one to try with.");
            if (attempt % _addresses.Length == 0)
            {
                await Task.Delay(wait, _time, cancellation).ConfigureAwait(false);
                wait = wait * 2 < _options.LongestBackOff ? wait * 2 : _options.LongestBackOff;
            }
        }
    }

    private async Task<byte[]> SendAsync(Uri address, byte[] body, bool wantGradients, long limit, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(_options.Timeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, $"v1/reward?gradient={(wantGradients ? "true" : "false")}")) { Content = new ByteArrayContent(body) };
        if (_options.Token is { } token)
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        using var response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, either.Token).ConfigureAwait(false);
        using var stream = await response.Content.ReadAsStreamAsync(either.Token).ConfigureAwait(false);
        if (response.IsSuccessStatusCode)
            return await ReadAsync(stream, limit, whole: true, address, either.Token).ConfigureAwait(false);
        var said = System.Text.Encoding.UTF8.GetString(await ReadAsync(stream, 300, whole: false, address, either.Token).ConfigureAwait(false)).Trim();
        var message = $"it answers {(int)response.StatusCode}{(said.Length > 0 ? $": {said}" : ".")}";
        throw response.StatusCode is HttpStatusCode.TooManyRequests or HttpStatusCode.RequestTimeout || (int)response.StatusCode >= 500
            ? new HttpRequestException(message)
            : new InvalidDataException($"{address}: {message}");
    }

    private static async Task<byte[]> ReadAsync(Stream stream, long limit, bool whole, Uri address, CancellationToken cancellation)
    {
        using var buffer = new MemoryStream();
        var part = new byte[81920];
        while (buffer.Length <= limit && await stream.ReadAsync(part, cancellation).ConfigureAwait(false) is var read and > 0)
            buffer.Write(part, 0, read);
        if (whole && buffer.Length > limit)
            throw new InvalidDataException($"{address} answers more than {limit} bytes, which scores and gradients of these pictures do not take.");
        return buffer.ToArray()[..(int)Math.Min(buffer.Length, limit)];
    }
}
