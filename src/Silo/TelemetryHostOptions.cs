using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Silo;

/// <summary>Form of the log on standard error.</summary>
public enum LogFormat
{
    /// <summary>For people.</summary>
    Text,

    /// <summary>One JSON object a line, with the ids of trace and span.</summary>
    Json,
}

/// <summary>Section <c>Telemetry</c>: where traces go, and how the log looks. Metrics need nothing: they are at <c>/metrics</c>.</summary>
public sealed class TelemetryHostOptions : IValidatableObject
{
    public const string Section = "Telemetry";

    /// <summary>Variable of the OpenTelemetry specification that says the same, and is used when this is not set.</summary>
    internal const string EndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT";

    /// <summary>Address that spans are sent to by OTLP, such as <c>http://collector:4317</c>. Default: OTEL_EXPORTER_OTLP_ENDPOINT, else none are sent. The other OTEL_… variables of the specification count as well: protocol, headers, sampler.</summary>
    public string? OtlpEndpoint { get; set; }

    /// <summary>Default: text.</summary>
    public LogFormat Logs { get; set; }

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (!string.IsNullOrWhiteSpace(OtlpEndpoint) && !(Uri.TryCreate(OtlpEndpoint, UriKind.Absolute, out var address) && address.Scheme is "http" or "https"))
            yield return new ValidationResult($"Telemetry:OtlpEndpoint is '{OtlpEndpoint}', which is not of the form http://host:port.");
    }
}
