using AdjointDpm.Grains.Telemetry;
using static AdjointDpm.Grains.Telemetry.AdjointDpmMetrics;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <param name="Name">Name of the series.</param>
/// <param name="Expression">PromQL.</param>
internal sealed record Recording(string Name, string Expression);

/// <param name="Name">Name.</param>
/// <param name="Severity">critical wakes somebody; warning waits for the morning.</param>
/// <param name="For">How long it must hold.</param>
/// <param name="Expression">PromQL.</param>
/// <param name="Summary">One sentence for the one who is woken.</param>
/// <param name="Firing">Series, a sample a minute, that it fires on after an hour.</param>
/// <param name="Quiet">Series that it must be quiet on.</param>
internal sealed record Alert(string Name, string Severity, string For, string Expression, string Summary, (string Series, string Values)[] Firing, (string Series, string Values)[] Quiet)
{
    /// <summary>Heading of its runbook in docs/operations.md, as a link names it.</summary>
    public string Anchor => Name.ToLowerInvariant();
}

/// <summary>The rules of deploy/prometheus.</summary>
internal static class Rules
{
    /// <summary>What autoscalers go by.</summary>
    public const string WorkShards = "adjointdpm:work:shards";

    /// <summary>Shards that workers hold and shards that wait, and the workers that an autoscaler is to keep for them: one for each.</summary>
    public static IReadOnlyList<(string Name, int Leased, int Waiting, int Work)> Scaling { get; } =
    [
        ("four busy workers, nothing waits, none is taken away", 4, 0, 4),
        ("two busy workers, six shards wait, more are worth it", 2, 6, 8),
        ("nothing to do", 0, 0, 0),
    ];

    private const string StepSeconds = "adjointdpm:step_seconds:mean30m";

    public static IReadOnlyList<Recording> Recordings { get; } =
    [
        new(StepSeconds, $"sum(rate({Of(StepDuration)}_sum[30m])) / (sum(rate({Of(StepDuration)}_count{{phase=\"commit\"}}[30m])) > 0)"),
        new("adjointdpm:steps:rate5m", $"sum(rate({Of(Steps)}[5m]))"),
        new("adjointdpm:samples:rate5m", $"sum(rate({Of(Samples)}{{work=\"gradient\"}}[5m]))"),
        new("adjointdpm:queue:depth", $"sum by (queue) ({Of(QueueDepth)})"),
        // What waits and what is held: what autoscalers go by, so that busy workers are not taken for idle ones.
        new(WorkShards, $"sum({Of(QueueDepth)}{{queue=\"shards\"}}) + sum({Of(Leases)})"),
        new("adjointdpm:shard_queue_seconds:p95_10m", $"histogram_quantile(0.95, sum by (le) (rate({Of(ShardDuration)}_bucket{{phase=\"queue\"}}[10m])))"),
        new("adjointdpm:commit_seconds:p95_10m", $"histogram_quantile(0.95, sum by (le) (rate({Of(StepDuration)}_bucket{{phase=\"commit\"}}[10m])))"),
    ];

    public static IReadOnlyList<Alert> Alerts { get; } =
    [
        new("AdjointDpmSiloDown", "critical", "2m", "up{job=\"adjointdpm\"} == 0",
            "Silo {{ $labels.instance }} cannot be scraped.",
            [("up{job=\"adjointdpm\",instance=\"a\"}", "0x120")], [("up{job=\"adjointdpm\",instance=\"a\"}", "1x120")]),
        new("AdjointDpmNoSilo", "critical", "2m", $"absent({Of(Build)})",
            "No silo is there.",
            [("up{job=\"other\"}", "1x120")], [(Of(Build) + "{version=\"1\"}", "1x120")]),
        new("AdjointDpmTrialStalled", "critical", "5m", $"time() - {Of(TrialCommitted)} > on () group_left () (clamp_min(5 * {StepSeconds}, 600) or on () vector(600))",
            "Trial {{ $labels.experiment }}/{{ $labels.trial }} has committed nothing for {{ $value | humanizeDuration }}, more than five steps take.",
            [(Of(TrialCommitted) + "{experiment=\"e\",trial=\"0\"}", "0x120")], [(Of(TrialCommitted) + "{experiment=\"e\",trial=\"0\"}", "0+60x120")]),
        new("AdjointDpmNoWorker", "critical", "5m", $"sum({Of(QueueDepth)}{{queue=\"shards\"}}) > 0 unless sum({Of(Workers)}{{state=~\"ready|busy\"}}) > 0",
            "{{ $value }} shards wait, and no worker may take them.",
            [(Depth("shards"), "4x120"), (State("ready"), "0x120"), (State("cordoned"), "2x120")], [(Depth("shards"), "4x120"), (State("busy"), "2x120")]),
        new("AdjointDpmWorkersIdle", "warning", "15m", $"sum({Of(Workers)}{{state=\"ready\"}}) > 0 and sum({Of(QueueDepth)}{{queue=\"shards\"}}) > 0",
            "Shards wait although {{ $value }} workers are ready.",
            [(State("ready"), "2x120"), (Depth("shards"), "4x120")], [(State("ready"), "2x120"), (Depth("shards"), "0x120")]),
        new("AdjointDpmGpuIdle", "warning", "15m", $"avg by (instance) ({Of(DeviceUtilization)}) < 0.1 and on (instance) sum by (instance) ({Of(QueueDepth)}{{queue=\"devices\"}}) > 0",
            "The GPU of {{ $labels.instance }} idles at {{ $value | humanizePercentage }} while work waits for it.",
            [(Of(DeviceUtilization) + "{instance=\"a\",gpu=\"0\"}", "0.02x120"), (Of(QueueDepth) + "{instance=\"a\",queue=\"devices\"}", "2x120")],
            [(Of(DeviceUtilization) + "{instance=\"a\",gpu=\"0\"}", "0.9x120"), (Of(QueueDepth) + "{instance=\"a\",queue=\"devices\"}", "2x120")]),
        new("AdjointDpmShardMismatch", "critical", "0m", $"sum by (instance) (increase({Of(Shards)}{{outcome=\"mismatch\"}}[15m])) > 0",
            "A shard that was computed twice gave different bits: a worker computes wrongly.",
            [(Of(Shards) + "{instance=\"a\",outcome=\"mismatch\"}", "0x50 1x70")], [(Of(Shards) + "{instance=\"a\",outcome=\"mismatch\"}", "1x120"), (Of(Shards) + "{instance=\"a\",outcome=\"duplicate\"}", "0+1x120")]),
        new("AdjointDpmNotFinite", "warning", "0m", $"sum by (instance) (increase({Of(NonFinite)}[15m])) > 0",
            "A loss, sample or gradient was not finite, which ended its trial.",
            [(Of(NonFinite) + "{instance=\"a\"}", "0x50 1x70")], [(Of(NonFinite) + "{instance=\"a\"}", "3x120")]),
        new("AdjointDpmLeasesExpire", "warning", "5m", $"sum(increase({Of(Expirations)}[10m])) > 3",
            "{{ $value | humanize }} leases ran out in 10 minutes: silos die, hang or cannot be reached.",
            [(Of(Expirations) + "{instance=\"a\"}", "0+1x120")], [(Of(Expirations) + "{instance=\"a\"}", "0x30 1x90")]),
        new("AdjointDpmCoordinatorsFlap", "warning", "5m", $"sum(increase({Of(Recoveries)}[30m])) > 3 * (1 + sum({Of(TrialsActive)}))",
            "Coordinators began anew {{ $value | humanize }} times in half an hour.",
            [(Of(Recoveries) + "{instance=\"a\"}", "0+1x120"), (Of(TrialsActive) + "{instance=\"a\",state=\"running\"}", "2x120")], [(Of(Recoveries) + "{instance=\"a\"}", "0x40 2x80"), (Of(TrialsActive) + "{instance=\"a\",state=\"running\"}", "2x120")]),
        new("AdjointDpmTrialsFail", "warning", "5m", $"sum(increase({Of(TrialsEnded)}{{outcome=\"failed\"}}[1h])) > 3 and sum(increase({Of(TrialsEnded)}{{outcome=\"failed\"}}[1h])) > 0.5 * sum(increase({Of(TrialsEnded)}[1h]))",
            "{{ $value | humanize }} trials failed in an hour, more than half of those that ended.",
            [(Ended("failed"), "0+1x120"), (Ended("succeeded"), "0x120")], [(Ended("failed"), "0+1x120"), (Ended("succeeded"), "0+3x120")]),
        new("AdjointDpmQueueLong", "warning", "15m", "adjointdpm:shard_queue_seconds:p95_10m > 300",
            "Work waits {{ $value | humanizeDuration }} for its device (95 of 100 less).",
            [(Bucket(ShardDuration, "queue", "300"), "0x120"), (Bucket(ShardDuration, "queue", "1000"), "0+5x120"), (Bucket(ShardDuration, "queue", "+Inf"), "0+5x120")],
            [(Bucket(ShardDuration, "queue", "1"), "0+5x120"), (Bucket(ShardDuration, "queue", "1000"), "0+5x120"), (Bucket(ShardDuration, "queue", "+Inf"), "0+5x120")]),
        new("AdjointDpmCommitsSlow", "warning", "10m", "adjointdpm:commit_seconds:p95_10m > 5",
            "Commits of steps take {{ $value | humanizeDuration }} (95 of 100 less): the disk or the database is slow.",
            [(Bucket(StepDuration, "commit", "3"), "0x120"), (Bucket(StepDuration, "commit", "10"), "0+5x120"), (Bucket(StepDuration, "commit", "+Inf"), "0+5x120")],
            [(Bucket(StepDuration, "commit", "0.1"), "0+5x120"), (Bucket(StepDuration, "commit", "10"), "0+5x120"), (Bucket(StepDuration, "commit", "+Inf"), "0+5x120")]),
        new("AdjointDpmCallsTimeOut", "warning", "5m", "sum(rate(orleans_app_requests_timedout_total[10m])) > 0.01 * sum(rate(orleans_app_requests_latency_milliseconds_count[10m]))",
            "{{ $value | humanize }} grain calls a second time out.",
            [("orleans_app_requests_timedout_total{instance=\"a\"}", "0+10x120"), ("orleans_app_requests_latency_milliseconds_count{instance=\"a\"}", "0+100x120")],
            [("orleans_app_requests_timedout_total{instance=\"a\"}", "0+1x120"), ("orleans_app_requests_latency_milliseconds_count{instance=\"a\"}", "0+1000x120")]),
        new("AdjointDpmMemoryShort", "warning", "5m", $"{Of(HostMemory)}{{state=\"used\"}} / ignoring (state) {Of(HostMemory)}{{state=\"total\"}} > 0.95",
            "Silo {{ $labels.instance }} uses {{ $value | humanizePercentage }} of its memory, and is killed at all of it.",
            [(Of(HostMemory) + "{instance=\"a\",state=\"used\"}", "97x120"), (Of(HostMemory) + "{instance=\"a\",state=\"total\"}", "100x120")], [(Of(HostMemory) + "{instance=\"a\",state=\"used\"}", "60x120"), (Of(HostMemory) + "{instance=\"a\",state=\"total\"}", "100x120")]),
        new("AdjointDpmDiskFull", "critical", "10m", $"{Of(Disk)}{{state=\"free\"}} / ignoring (state) {Of(Disk)}{{state=\"total\"}} < 0.1",
            "The data folder of {{ $labels.instance }} has {{ $value | humanizePercentage }} of its disk left.",
            [(Of(Disk) + "{instance=\"a\",state=\"free\"}", "5x120"), (Of(Disk) + "{instance=\"a\",state=\"total\"}", "100x120")], [(Of(Disk) + "{instance=\"a\",state=\"free\"}", "50x120"), (Of(Disk) + "{instance=\"a\",state=\"total\"}", "100x120")]),
        new("AdjointDpmGpuErrors", "critical", "0m", $"sum by (instance, gpu, kind) (increase({Of(DeviceErrors)}{{kind=~\"ecc_uncorrected|xid\"}}[15m])) > 0",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} reports errors ({{ $labels.kind }}).",
            [(Of(DeviceErrors) + "{instance=\"a\",gpu=\"0\",kind=\"xid\"}", "0x50 1x70")], [(Of(DeviceErrors) + "{instance=\"a\",gpu=\"0\",kind=\"ecc_corrected\"}", "0+1x120"), (Of(DeviceErrors) + "{instance=\"a\",gpu=\"0\",kind=\"xid\"}", "2x120")]),
        new("AdjointDpmGpuHot", "warning", "10m", $"{Of(DeviceTemperature)} > 88",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} is at {{ $value }} °C and slows itself down.",
            [(Of(DeviceTemperature) + "{instance=\"a\",gpu=\"0\"}", "92x120")], [(Of(DeviceTemperature) + "{instance=\"a\",gpu=\"0\"}", "70x120")]),
        new("AdjointDpmRefusals", "warning", "0m", $"sum by (reason) (increase({Of(Refusals)}[10m])) > 20",
            "{{ $value | humanize }} refusals in 10 minutes ({{ $labels.reason }}): somebody tries doors, or a credential has run out.",
            [(Of(Refusals) + "{instance=\"a\",reason=\"token\"}", "0x50 5+5x70")], [(Of(Refusals) + "{instance=\"a\",reason=\"token\"}", "0x30 2x90"), (Of(Refusals) + "{instance=\"a\",reason=\"certificate\"}", "100x120")]),
        new("AdjointDpmCertificateEnds", "critical", "10m", $"{Of(CertificateExpiry)} - time() < 7 * 86400",
            "The certificate of {{ $labels.instance }} runs out in {{ $value | humanizeDuration }}, and nobody speaks with it then.",
            [(Of(CertificateExpiry) + "{instance=\"a\"}", "500000x120")], [(Of(CertificateExpiry) + "{instance=\"a\"}", "7000000x120")]),
        new("AdjointDpmVersionsMixed", "warning", "30m", $"count(count by (version) ({Of(Build)})) > 1",
            "{{ $value }} versions have run side by side for longer than an upgrade takes.",
            [(Of(Build) + "{instance=\"a\",version=\"1\"}", "1x120"), (Of(Build) + "{instance=\"b\",version=\"2\"}", "1x120")], [(Of(Build) + "{instance=\"a\",version=\"1\"}", "1x120"), (Of(Build) + "{instance=\"b\",version=\"1\"}", "1x120")]),
    ];

    private static string Of(MetricDescription metric) => metric.PrometheusName;

    private static string Depth(string queue) => $"{Of(QueueDepth)}{{instance=\"a\",queue=\"{queue}\"}}";

    private static string State(string state) => $"{Of(Workers)}{{instance=\"a\",state=\"{state}\"}}";

    private static string Ended(string outcome) => $"{Of(TrialsEnded)}{{instance=\"a\",outcome=\"{outcome}\"}}";

    private static string Bucket(MetricDescription metric, string phase, string le) => $"{Of(metric)}_bucket{{instance=\"a\",phase=\"{phase}\",le=\"{le}\"}}";
}
