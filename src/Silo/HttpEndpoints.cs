using OpenTelemetry.Metrics;

namespace AdjointDpm.Silo;

/// <summary>Metrics and health over HTTP.</summary>
internal static class HttpEndpoints
{
    public static void AddPrometheusMetrics(this IServiceCollection services) =>
        services.AddOpenTelemetry().WithMetrics(metrics => metrics
            .AddMeter("Microsoft.Orleans", AdjointDpmSiloBuilderExtensions.MeterName)
            .AddRuntimeInstrumentation()
            .AddPrometheusExporter(exporter => exporter.ScrapeResponseCacheDurationMilliseconds = 0));

    public static void MapEndpoints(this WebApplication app)
    {
        app.MapPrometheusScrapingEndpoint("/metrics");
        // Answers as long as the process does: no grain calls, no storage, or a slow cluster would be restarted to death.
        app.MapGet("/health/live", () => Results.Text("live\n"));
        app.MapGet("/health/ready", (ISiloStatusOracle oracle, IHostApplicationLifetime lifetime) =>
            oracle.CurrentStatus == SiloStatus.Active && !lifetime.ApplicationStopping.IsCancellationRequested
                ? Results.Text("ready\n")
                : Results.Text($"not ready: {oracle.CurrentStatus}\n", statusCode: StatusCodes.Status503ServiceUnavailable));
    }
}
