using System.Diagnostics.Metrics;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>What a metric is.</summary>
internal enum MetricKind
{
    /// <summary>Only grows; Prometheus calls it <c>…_total</c>.</summary>
    Counter,

    /// <summary>A number that rises and falls.</summary>
    Gauge,

    /// <summary>Durations, in buckets.</summary>
    Histogram,
}

/// <summary>One metric: everything that instruments, dashboards, alerts and the list in docs/operations.md say of it comes from here.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Name of the instrument, with dots.</param>
/// <param name="Unit">Unit as OpenTelemetry writes it (<c>s</c>, <c>By</c>, …); null for a plain number.</param>
/// <param name="Help">One sentence.</param>
/// <param name="Labels">Its labels, sorted. All are bounded, but for those of <see cref="AdjointDpmMetrics.OfLiveTrials"/>, which go with their trial.</param>
/// <param name="EmptyWithout">What has it: where there is none of that, it is legitimately empty. Null when a cluster that has done some work has it.</param>
internal sealed record MetricDescription(MetricKind Kind, string Name, string? Unit, string Help, string[] Labels, string? EmptyWithout = null)
{
    /// <summary>Bounds of durations in seconds: from a commit on a fast disk to a step of a quarter of an hour.</summary>
    private static readonly InstrumentAdvice<double> Seconds = new() { HistogramBucketBoundaries = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000] };

    /// <summary>Name in Prometheus; a histogram's has <c>_bucket</c>, <c>_sum</c> and <c>_count</c> after it.</summary>
    public string PrometheusName => Name.Replace('.', '_') + Unit switch
    {
        null => "",
        "s" => "_seconds",
        "By" => "_bytes",
        "W" => "_watts",
        "Cel" => "_celsius",
        _ => throw new InvalidOperationException($"'{Unit}' of {Name} is no unit that is known here."),
    } + (Kind == MetricKind.Counter ? "_total" : "");

    /// <summary>Names of its series in Prometheus.</summary>
    public IEnumerable<string> SeriesNames => Kind == MetricKind.Histogram ? [PrometheusName + "_bucket", PrometheusName + "_sum", PrometheusName + "_count"] : [PrometheusName];

    public Counter<long> CounterOf(Meter meter) => Of(MetricKind.Counter, meter).CreateCounter<long>(Name, Unit, Help);

    public UpDownCounter<long> UpDownOf(Meter meter) => Of(MetricKind.Gauge, meter).CreateUpDownCounter<long>(Name, Unit, Help);

    public Gauge<long> GaugeOf(Meter meter) => Of(MetricKind.Gauge, meter).CreateGauge<long>(Name, Unit, Help);

    public Histogram<double> HistogramOf(Meter meter) => Of(MetricKind.Histogram, meter).CreateHistogram(Name, Unit, Help, tags: null, Seconds);

    /// <summary>A gauge that is asked for when somebody looks: series that are no longer told of are gone.</summary>
    public void Observe(Meter meter, Func<IEnumerable<Measurement<double>>> read) => Of(MetricKind.Gauge, meter).CreateObservableGauge(Name, read, Unit, Help);

    /// <summary>A counter that something else keeps.</summary>
    public void ObserveCounter(Meter meter, Func<IEnumerable<Measurement<long>>> read) => Of(MetricKind.Counter, meter).CreateObservableCounter(Name, read, Unit, Help);

    private Meter Of(MetricKind kind, Meter meter) => kind == Kind ? meter : throw new InvalidOperationException($"{Name} is a {Kind}, not a {kind}.");
}
