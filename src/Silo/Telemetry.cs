using Microsoft.Extensions.Logging.Console;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace AdjointDpm.Silo;

/// <summary>Metrics always, traces where somebody takes them, the log in the form that was asked for.</summary>
internal static class Telemetry
{
    public static void AddTelemetry(this WebApplicationBuilder builder, TelemetryHostOptions options, string siloName)
    {
        // Standard output holds the ready line and nothing else.
        builder.Logging.AddConsole(console =>
        {
            console.LogToStandardErrorThreshold = LogLevel.Trace;
            console.FormatterName = options.Logs == LogFormat.Json ? ConsoleFormatterNames.Json : ConsoleFormatterNames.Simple;
        });
        var telemetry = builder.Services.AddOpenTelemetry()
            .ConfigureResource(resource => resource.AddService("adjointdpm-silo", serviceInstanceId: siloName))
            .WithMetrics(metrics => metrics
                .AddMeter("Microsoft.Orleans", AdjointDpmSiloBuilderExtensions.MeterName)
                .AddRuntimeInstrumentation()
                .AddPrometheusExporter(exporter => exporter.ScrapeResponseCacheDurationMilliseconds = 0));

        if (!string.IsNullOrWhiteSpace(options.OtlpEndpoint))
            builder.Configuration[TelemetryHostOptions.EndpointVariable] = options.OtlpEndpoint;
        var sent = !string.IsNullOrWhiteSpace(builder.Configuration[TelemetryHostOptions.EndpointVariable]);
        if (options.Logs == LogFormat.Json)
            // Scopes carry the ids of trace and span into every line.
            builder.Logging.AddJsonConsole(console => (console.IncludeScopes, console.UseUtcTimestamp, console.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ"))
                .Configure(logging => logging.ActivityTrackingOptions = ActivityTrackingOptions.TraceId | ActivityTrackingOptions.SpanId);
        // Spans cost something with every call: only where they go anywhere, or the log shows their ids.
        if (sent || options.Logs == LogFormat.Json)
            telemetry.WithTracing(tracing =>
            {
                tracing.AddSource(AdjointDpmSiloBuilderExtensions.TraceSourceName, "Microsoft.Orleans.Application");
                if (sent)
                    tracing.AddOtlpExporter();
            });
    }
}
