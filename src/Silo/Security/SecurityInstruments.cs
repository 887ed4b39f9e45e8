using System.Diagnostics.Metrics;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Silo.Security;

/// <summary>Tells, when somebody looks, who was refused and when this silo's certificate runs out.</summary>
internal sealed class SecurityInstruments : IHostedService, IDisposable
{
    private readonly Meter _meter;

    public SecurityInstruments(IMeterFactory meters, FailedAttempts failed, AuditLog audit, TlsFolder? tls = null)
    {
        _meter = meters.Create(AdjointDpmSiloBuilderExtensions.MeterName);
        AdjointDpmMetrics.Refusals.ObserveCounter(_meter, () => [Of("token", failed.Total), Of("call", audit.Refusals), Of("certificate", tls?.Refusals ?? 0)]);
        if (tls is not null)
            AdjointDpmMetrics.CertificateExpiry.Observe(_meter, () => tls.Own is { } own ? [new(new DateTimeOffset(own.TargetCertificate.NotAfter).ToUnixTimeSeconds())] : []);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose() => _meter.Dispose();

    private static Measurement<long> Of(string reason, long count) => new(count, new KeyValuePair<string, object?>("reason", reason));
}
