using System.Text;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using Microsoft.Net.Http.Headers;

namespace AdjointDpm.Silo;

/// <summary>Metrics and health over HTTP.</summary>
internal static class HttpEndpoints
{
    public static void MapEndpoints(this WebApplication app)
    {
        app.MapPrometheusScrapingEndpoint(AdjointDpmCluster.MetricsPath).Add(endpoint =>
        {
            var scrape = endpoint.RequestDelegate!;
            endpoint.RequestDelegate = context => WithLiveGaugesAsync(context, scrape);
        });
        // Answers as long as the process does: no grain calls, no storage, or a slow cluster would be restarted to death.
        app.MapGet(AdjointDpmCluster.LivePath, () => Results.Text("live\n"));
        app.MapGet(AdjointDpmCluster.ReadyPath, (ISiloStatusOracle oracle, IHostApplicationLifetime lifetime) =>
            oracle.CurrentStatus == SiloStatus.Active && !lifetime.ApplicationStopping.IsCancellationRequested
                ? Results.Text("ready\n")
                : Results.Text($"not ready: {oracle.CurrentStatus}\n", statusCode: StatusCodes.Status503ServiceUnavailable));
    }

    /// <summary>Writes the gauges of what lives now behind what OpenTelemetry tells.</summary>
    private static async Task WithLiveGaugesAsync(HttpContext context, RequestDelegate scrape)
    {
        var body = context.Response.Body;
        using var buffer = new MemoryStream();
        context.Response.Body = buffer;
        // What follows could not be appended to compressed bytes; and a silo's processor is scarcer than the network.
        context.Request.Headers.Remove(HeaderNames.AcceptEncoding);
        try
        {
            await scrape(context);
        }
        finally
        {
            context.Response.Body = body;
        }
        context.Response.ContentLength = null;
        var told = buffer.GetBuffer().AsMemory(0, (int)buffer.Length);
        // OpenMetrics ends with a line that says so.
        var end = told.Span.EndsWith("# EOF\n"u8) ? "# EOF\n" : "";
        await body.WriteAsync(told[..^end.Length], context.RequestAborted);
        if (context.Response.StatusCode == StatusCodes.Status200OK)
            await body.WriteAsync(Encoding.UTF8.GetBytes(context.RequestServices.GetRequiredService<LiveGauges>().Read() + end), context.RequestAborted);
    }
}
