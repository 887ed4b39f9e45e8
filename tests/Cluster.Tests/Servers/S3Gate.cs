using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>A request that passed the gate's checks.</summary>
internal sealed record GateRequest(string Method, string Path, string Query, byte[] Body)
{
    public bool IsPutOf(string end) => Method == "PUT" && Path.EndsWith(end, StringComparison.Ordinal);
}

/// <summary>Stands before <see cref="S3Server"/> and refuses what Amazon's server refuses: wrong signatures (version 4), bodies that are not of the signed SHA-256, wrong checksum headers.
/// Keeps a list of what it let pass, and can hold, refuse or damage a request on its way.</summary>
internal sealed partial class S3Gate : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly HttpClient _http = new(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero, AllowAutoRedirect = false });
    private readonly Uri _server;
    private readonly string _secret;
    private readonly List<GateRequest> _passed = [];
    private readonly Dictionary<string, string> _checksums = [];

    private S3Gate(WebApplication app, Uri server, string secret) => (_app, _server, _secret) = (app, server, secret);

    public string Endpoint => _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();

    /// <summary>Whether objects' checksums are told, as Amazon does; else silos must read back what they wrote.</summary>
    public bool TellsChecksums { get; set; }

    /// <summary>Called with every request that passed, before the server sees it. An answer other than null is sent back instead.</summary>
    public Func<GateRequest, Task<HttpStatusCode?>> Before { get; set; } = _ => Task.FromResult<HttpStatusCode?>(null);

    public IReadOnlyList<GateRequest> Passed
    {
        get
        {
            lock (_passed)
                return [.. _passed];
        }
    }

    public static async Task<S3Gate> StartAsync(Uri server, string secret)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, 0);
            kestrel.Limits.MaxRequestBodySize = null;
        });
        builder.Logging.ClearProviders();
        var gate = new S3Gate(builder.Build(), server, secret);
        gate._app.Run(gate.AnswerAsync);
        await gate._app.StartAsync(TestContext.Current.CancellationToken);
        return gate;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        _http.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        var target = context.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget.Split('?', 2);
        var (path, query) = (target[0], target.Length > 1 ? target[1] : "");
        using var contents = new MemoryStream();
        await context.Request.Body.CopyToAsync(contents);
        var body = contents.ToArray();
        if (Refusal(context.Request, path, query, body) is var (code, reason))
        {
            await RefuseAsync(context, code, reason);
            return;
        }
        var request = new GateRequest(context.Request.Method, path, query, body);
        lock (_passed)
            _passed.Add(request);
        if (await Before(request) is { } status)
        {
            await RefuseAsync(context, status, "SlowDown");
            return;
        }
        try
        {
            await PassAsync(context, request);
        }
        catch (HttpRequestException)
        {
            // As a connection to a server that is gone.
            context.Abort();
        }
    }

    private async Task PassAsync(HttpContext context, GateRequest request)
    {
        using var message = new HttpRequestMessage(new HttpMethod(request.Method), new Uri(_server, request.Path + (request.Query.Length > 0 ? "?" + request.Query : "")));
        if (request.Body.Length > 0 || request.Method is "PUT" or "POST")
            message.Content = new ByteArrayContent(request.Body);
        foreach (var (name, values) in context.Request.Headers)
            if (name is not ("Host" or "Content-Length" or "Transfer-Encoding" or "Expect" or "Connection") && !message.Headers.TryAddWithoutValidation(name, (IEnumerable<string?>)values))
                message.Content?.Headers.TryAddWithoutValidation(name, (IEnumerable<string?>)values);
        using var answer = await _http.SendAsync(message);
        context.Response.StatusCode = (int)answer.StatusCode;
        foreach (var (name, values) in answer.Headers.Concat(answer.Content.Headers))
            if (name is not ("Transfer-Encoding" or "Connection" or "Keep-Alive" or "Date"))
                context.Response.Headers[name] = values.ToArray();
        Checksums(context, request, answer.IsSuccessStatusCode);
        if (request.Method != "HEAD")
            await answer.Content.CopyToAsync(context.Response.Body);
    }

    /// <summary>Remembers the checksum of an object as the server would: of its bytes, or of its parts' checksums.</summary>
    private void Checksums(HttpContext context, GateRequest request, bool succeeded)
    {
        if (!succeeded || !TellsChecksums)
            return;
        lock (_checksums)
        {
            if (request.Method == "PUT" && request.Query.Length == 0 && context.Request.Headers["x-amz-checksum-sha256"].FirstOrDefault() is { } sent)
                _checksums[request.Path] = sent;
            else if (request.Method == "POST" && request.Query.Contains("uploadId", StringComparison.Ordinal))
            {
                var parts = PartChecksum().Matches(Encoding.UTF8.GetString(request.Body)).Select(match => Convert.FromBase64String(match.Groups[1].Value)).ToArray();
                _checksums[request.Path] = $"{Convert.ToBase64String(SHA256.HashData(parts.SelectMany(part => part).ToArray()))}-{parts.Length}";
            }
            else if (request.Method == "HEAD" && context.Request.Headers["x-amz-checksum-mode"] == "ENABLED" && _checksums.TryGetValue(request.Path, out var kept))
                context.Response.Headers["x-amz-checksum-sha256"] = kept;
        }
    }

    private (HttpStatusCode Code, string Reason)? Refusal(HttpRequest request, string path, string query, byte[] body)
    {
        var claimed = request.Headers["x-amz-content-sha256"].FirstOrDefault();
        if (claimed != Convert.ToHexStringLower(SHA256.HashData(body)))
            return (HttpStatusCode.BadRequest, "XAmzContentSHA256Mismatch");
        if (request.Headers["x-amz-checksum-sha256"].FirstOrDefault() is { } checksum && checksum != Convert.ToBase64String(SHA256.HashData(body)))
            return (HttpStatusCode.BadRequest, "BadDigest");
        if (Authorization().Match(request.Headers.Authorization.FirstOrDefault() ?? "") is not { Success: true } said)
            return (HttpStatusCode.Forbidden, "AccessDenied");
        var (date, scope, signed) = (said.Groups["date"].Value, said.Groups["scope"].Value, said.Groups["headers"].Value.Split(';'));
        var arguments = query.Split('&', StringSplitOptions.RemoveEmptyEntries).Select(argument => argument.Contains('=', StringComparison.Ordinal) ? argument : argument + "=").Order(StringComparer.Ordinal);
        var canonical = string.Join('\n', [request.Method, path, string.Join('&', arguments), .. signed.Select(name => $"{name}:{request.Headers[name].ToString().Trim()}"), "", string.Join(';', signed), claimed]);
        var text = $"AWS4-HMAC-SHA256\n{request.Headers["x-amz-date"]}\n{date}/{scope}\n{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(canonical)))}";
        var key = scope.Split('/').Prepend(date).Aggregate(Encoding.UTF8.GetBytes("AWS4" + _secret), (key, part) => HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(part)));
        return Convert.ToHexStringLower(HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(text))) == said.Groups["signature"].Value
            ? null
            : said.Groups["account"].Value == S3Server.Account ? (HttpStatusCode.Forbidden, "SignatureDoesNotMatch") : null;
    }

    private static async Task RefuseAsync(HttpContext context, HttpStatusCode code, string reason)
    {
        context.Response.StatusCode = (int)code;
        context.Response.ContentType = "application/xml";
        if (context.Request.Method != "HEAD")
            await context.Response.WriteAsync($"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{reason}</Code><Message>Refused at the gate.</Message></Error>");
    }

    [GeneratedRegex("^AWS4-HMAC-SHA256 Credential=(?<account>[^/]+)/(?<date>[0-9]{8})/(?<scope>[^,]+), ?SignedHeaders=(?<headers>[^,]+), ?Signature=(?<signature>[0-9a-f]{64})$")]
    private static partial Regex Authorization();

    [GeneratedRegex("<ChecksumSHA256>([^<]+)</ChecksumSHA256>")]
    private static partial Regex PartChecksum();
}
