using System.Net;
using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>A span as it came over the wire.</summary>
internal sealed record Span(string Silo, string Trace, string Id, string Parent, string Name);

/// <summary>Takes spans by OTLP over HTTP, as a collector does, and keeps them.</summary>
internal sealed class SpanReceiver : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<Span> _spans = [];

    private SpanReceiver(WebApplication app) => _app = app;

    public string Endpoint => _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();

    public IReadOnlyList<Span> Spans
    {
        get
        {
            lock (_spans)
                return [.. _spans];
        }
    }

    public static async Task<SpanReceiver> StartAsync()
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        builder.Logging.ClearProviders();
        var receiver = new SpanReceiver(builder.Build());
        receiver._app.Run(async context =>
        {
            using var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body);
            if (context.Request.Path == "/v1/traces")
                receiver.Take(body.ToArray());
        });
        await receiver._app.StartAsync(TestContext.Current.CancellationToken);
        return receiver;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    // Numbers of the fields: opentelemetry/proto/trace/v1/trace.proto.
    private void Take(byte[] request)
    {
        foreach (var resource in Fields(request, 1))
        {
            var silo = Fields(resource, 1).SelectMany(attributes => Fields(attributes, 1)).Where(pair => Text(Fields(pair, 1)) == "service.instance.id").Select(pair => Text(Fields(Fields(pair, 2).Single(), 1))).Single();
            foreach (var span in Fields(resource, 2).SelectMany(scope => Fields(scope, 2)))
                lock (_spans)
                    _spans.Add(new Span(silo, Hex(Fields(span, 1)), Hex(Fields(span, 2)), Hex(Fields(span, 4)), Text(Fields(span, 5))));
        }
    }

    private static List<byte[]> Fields(byte[] message, int number)
    {
        var found = new List<byte[]>();
        var input = new CodedInputStream(message);
        while (input.ReadTag() is not 0 and var tag)
            if (WireFormat.GetTagFieldNumber(tag) == number && WireFormat.GetTagWireType(tag) == WireFormat.WireType.LengthDelimited)
                found.Add(input.ReadBytes().ToByteArray());
            else
                input.SkipLastField();
        return found;
    }

    private static string Text(List<byte[]> field) => field.Count == 0 ? "" : System.Text.Encoding.UTF8.GetString(field[0]);

    private static string Hex(List<byte[]> field) => field.Count == 0 ? "" : Convert.ToHexStringLower(field[0]);
}
