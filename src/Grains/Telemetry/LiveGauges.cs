using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Gauges of what lives on this silo now, in Prometheus' text format: trials and experiments come and go by the thousand.</summary>
/// <remarks>OpenTelemetry keeps a place for every set of labels that a process ever had, and after 2,000 of them counts all others as one. Here nothing is kept: a trial that has ended is gone.</remarks>
public sealed class LiveGauges : IDisposable
{
    /// <summary>Meter of these gauges; an exporter of OpenTelemetry should not have it.</summary>
    public const string MeterName = "AdjointDpm.Live";

    private static readonly Dictionary<string, MetricDescription> Descriptions = AdjointDpmMetrics.All.ToDictionary(metric => metric.Name);

    private readonly MeterListener _listener = new();
    private readonly SortedDictionary<string, StringBuilder> _series = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    /// <param name="meters">The silo's meters.</param>
    public LiveGauges(IMeterFactory meters)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == MeterName && ReferenceEquals(instrument.Meter.Scope, meters))
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<double>(Measured);
        _listener.Start();
    }

    /// <summary>Where they all stand, as lines that may follow those of other metrics.</summary>
    public string Read()
    {
        lock (_lock)
        {
            _series.Clear();
            _listener.RecordObservableInstruments();
            var text = new StringBuilder();
            foreach (var (name, lines) in _series)
            {
                var metric = Descriptions[name];
                text.Append("# TYPE ").Append(metric.PrometheusName).Append(" gauge\n# HELP ").Append(metric.PrometheusName).Append(' ').Append(metric.Help).Append('\n').Append(lines);
            }
            return text.ToString();
        }
    }

    /// <inheritdoc />
    public void Dispose() => _listener.Dispose();

    private void Measured(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> labels, object? state)
    {
        if (!_series.TryGetValue(instrument.Name, out var lines))
            _series[instrument.Name] = lines = new StringBuilder();
        lines.Append(Descriptions[instrument.Name].PrometheusName);
        var open = '{';
        foreach (var (name, label) in labels)
        {
            lines.Append(open).Append(name).Append("=\"");
            foreach (var c in (string?)label ?? "")
                _ = c switch { '\\' => lines.Append("\\\\"), '"' => lines.Append("\\\""), '\n' => lines.Append("\\n"), _ => lines.Append(c) };
            lines.Append('"');
            open = ',';
        }
        lines.Append(open == '{' ? " " : "} ").Append(value switch
        {
            double.PositiveInfinity => "+Inf",
            double.NegativeInfinity => "-Inf",
            _ => value.ToString(CultureInfo.InvariantCulture),
        }).Append('\n');
    }
}
