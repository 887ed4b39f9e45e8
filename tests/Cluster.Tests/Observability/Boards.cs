using AdjointDpm.Grains.Telemetry;
using static AdjointDpm.Grains.Telemetry.AdjointDpmMetrics;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <param name="Legend">Grafana's legend, such as <c>{{state}}</c>.</param>
/// <param name="Expression">PromQL.</param>
/// <param name="EmptyWithout">Why no data is right on a machine without it; null when a working cluster has some.</param>
internal sealed record Query(string Legend, string Expression, string? EmptyWithout = null);

/// <param name="Title">Title.</param>
/// <param name="Unit">Grafana's name of the unit.</param>
/// <param name="Description">What it says and when to look.</param>
/// <param name="Queries">What it shows.</param>
internal sealed record Panel(string Title, string Unit, string Description, params Query[] Queries)
{
    /// <summary>timeseries, stat or heatmap.</summary>
    public string Type { get; init; } = "timeseries";
}

/// <param name="File">Name of its file without the ending, and its uid.</param>
/// <param name="Title">Title.</param>
/// <param name="Panels">From left to right, three to a row.</param>
internal sealed record Board(string File, string Title, params Panel[] Panels);

/// <summary>The dashboards of deploy/grafana, with names of metrics taken from the table that the instruments are made from.</summary>
internal static class Boards
{
    private const string Gpu = "a GPU";
    private const string Rate = "[$__rate_interval]";

    public static Board Fleet { get; } = new("adjointdpm-fleet", "AdjointDpm / Fleet",
        Stat("Silos", "Silos by version. Two versions for longer than an upgrade takes mean that it got stuck.", new Query("{{version}}", $"sum by (version) ({Of(Build)})")),
        Stat("Workers", "Devices by state.", new Query("{{state}}", $"sum by (state) ({Of(Workers)})")),
        Stat("Leases", "Shards that workers hold.", new Query("leased", $"sum({Of(Leases)})")),
        Lines("What waits", "short", "Trials for a place, shards for a worker, work at devices. Shards that wait with ready workers are an error; without them, add workers.", new Query("{{queue}}", $"sum by (queue) ({Of(QueueDepth)})")),
        Lines("Shards a second", "ops", "By outcome. Anything but accepted costs time; mismatch is a worker that computes wrongly.", new Query("{{outcome}}", $"sum by (outcome) (rate({Of(Shards)}{Rate}))")),
        Lines("Trouble", "short", "Events in 5 minutes.",
            new Query("coordinators recovered", $"sum(increase({Of(Recoveries)}[5m]))"),
            new Query("leases expired", $"sum(increase({Of(Expirations)}[5m]))"),
            new Query("shards given out again", $"sum(increase({Of(Reissues)}[5m]))"),
            new Query("work failed: {{reason}}", $"sum by (reason) (increase({Of(WorkFailures)}[5m]))")),
        Lines("GPU utilisation", "percentunit", "Share of time in which the GPU computed.", new Query("{{instance}} {{gpu}}", Of(DeviceUtilization), Gpu)),
        Lines("GPU memory", "percentunit", "Used share of the GPU's memory.", new Query("{{instance}} {{gpu}}", $"{Of(DeviceMemory)}{{state=\"used\"}} / ignoring (state) {Of(DeviceMemory)}{{state=\"total\"}}", Gpu)),
        Lines("GPU power and temperature", "short", "Watts and degrees Celsius.", new Query("{{instance}} {{gpu}} W", Of(DevicePower), Gpu), new Query("{{instance}} {{gpu}} °C", Of(DeviceTemperature), Gpu)),
        Lines("GPU errors", "short", "ECC errors and XIDs in an hour.", new Query("{{instance}} {{gpu}} {{kind}}", $"increase({Of(DeviceErrors)}[1h]) > 0", Gpu)),
        Lines("Host memory", "percentunit", "Used share of the machine's or container's memory.", new Query("{{instance}}", $"{Of(HostMemory)}{{state=\"used\"}} / ignoring (state) {Of(HostMemory)}{{state=\"total\"}}")),
        Lines("Process memory", "bytes", "Resident memory of the silo, libtorch's included.", new Query("{{instance}}", "dotnet_process_memory_working_set_bytes")),
        Lines("Processor", "short", "Cores that the silo keeps busy.", new Query("{{instance}}", $"sum by (instance) (rate(dotnet_process_cpu_time_seconds_total{Rate}))")),
        Lines("Live tensors", "short", "Tensors alive in the process: they must come back to the same level after every trial.", new Query("{{instance}}", Of(LiveTensors)), new Query("{{instance}} peak of a shard", Of(PeakTensors))),
        Lines("Disk", "percentunit", "Free share of the data folder's disk.", new Query("{{instance}}", $"{Of(Disk)}{{state=\"free\"}} / ignoring (state) {Of(Disk)}{{state=\"total\"}}")),
        Lines("Garbage collection", "percentunit", "Share of time that collections held the process up.", new Query("{{instance}}", $"rate(dotnet_gc_pause_time_seconds_total{Rate})")),
        Lines("Grain calls", "ms", "99 of 100 calls between grains take less.", new Query("p99", $"histogram_quantile(0.99, sum by (le) (rate(orleans_app_requests_latency_milliseconds_bucket{Rate})))")),
        Lines("State writes", "ms", "99 of 100 writes of grain state take less.", new Query("p99", $"histogram_quantile(0.99, sum by (le) (rate(orleans_storage_write_latency_milliseconds_bucket{Rate})))")),
        Lines("Activations", "short", "Grains in memory.", new Query("{{instance}}", "orleans_catalog_activations")),
        Lines("Membership probes", "short", "Probes sent and not answered in 5 minutes.", new Query("{{instance}}", "clamp_min(sum by (instance) (increase(orleans_messaging_pings_sent_total[5m])) - sum by (instance) (increase(orleans_messaging_pings_reply_received_total[5m])), 0)")),
        Lines("Clients", "short", "Clients that are connected to gateways.", new Query("{{instance}}", "orleans_gateway_connected_clients")),
        Lines("Refused", "short", "Wrong tokens, certificates of others and calls that a user may not make, in 5 minutes.", new Query("{{reason}}", $"sum by (reason) (increase({Of(Refusals)}[5m]))")),
        Lines("Certificates", "d", "Days until the certificate of a silo runs out.", new Query("{{instance}}", $"({Of(CertificateExpiry)} - time()) / 86400", "certificates")),
        Lines("Work", "short", "Shards that wait and shards that workers hold: what autoscalers go by.", new Query("shards", "adjointdpm:work:shards")));

    public static Board Sweep { get; } = new("adjointdpm-sweep", "AdjointDpm / Sweep",
        Lines("Trials", "short", "Trials of running experiments, by state.", new Query("{{experiment}} {{state}}", $"sum by (experiment, state) ({Of(ExperimentTrials)}{Experiment})")),
        Lines("Trials a minute", "short", "Trials that ended, by outcome.", new Query("{{outcome}}", $"60 * sum by (outcome) (rate({Of(TrialsEnded)}{Rate}))")),
        Lines("Best objective", "short", "Best number of the objective so far.", new Query("{{experiment}} {{metric}}", $"max by (experiment, metric) ({Of(ExperimentBest)}{Experiment})")),
        Lines("Minutes left", "m", "Trials that have not ended, at the rate of the last 10 minutes.", new Query("minutes", $"sum({Of(ExperimentTrials)}{{state=~\"queued|running\"}}) / (60 * sum(rate({Of(TrialsEnded)}[10m])) > 0)")),
        Lines("Evaluations", "short", "Evaluations of the network that experiments have cost: what budget.evaluations counts.", new Query("{{experiment}}", $"sum by (experiment) ({Of(ExperimentEvaluations)}{Experiment})")),
        Lines("Wait for a coordinator", "s", "From a free place to the start of the trial.", Quantile("p50", 0.5, TrialWait), Quantile("p95", 0.95, TrialWait)),
        Lines("Wait for a device", "s", "How long work waited at its worker, behind that of others.", Quantile("p50", 0.5, ShardDuration, "{phase=\"queue\"}"), Quantile("p95", 0.95, ShardDuration, "{phase=\"queue\"}")),
        Lines("Suggestions", "s", "How long searches take to name a trial's values, 95 of 100.", new Query("{{algorithm}}", $"histogram_quantile(0.95, sum by (algorithm, le) (rate({Of(SuggestDuration)}_bucket{Rate})))")),
        Lines("Begun anew", "short", "Trials that had to begin something anew in an hour, by reason.", new Query("{{reason}}", $"sum by (reason) (increase({Of(TrialRetries)}[1h]))")),
        Lines("Progress", "percentunit", "Steps committed of those planned.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialStep)}{Experiment} / {Of(TrialSteps)}{Experiment}")),
        Lines("Losses", "short", "Training loss of the trials that run.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialLoss)}{Experiment}")));

    public static Board Training { get; } = new("adjointdpm-training", "AdjointDpm / Training",
        Lines("Loss", "short", "Training loss of the newest committed step.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialLoss)}{Experiment}")),
        Lines("Parts of the loss", "short", "Losses, rewards and constraints one by one.", new Query("{{experiment}}/{{trial}} {{part}}", $"{Of(TrialLossPart)}{Experiment}")),
        Lines("Held-out loss", "short", "On noise that training never sees. A rise while the loss falls is overfitting, or a reward that is being gamed.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialHeldOut)}{Experiment}")),
        Lines("Gradient norm", "short", "L2 norm before clipping.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialGradientNorm)}{Experiment}")),
        Lines("Learning rate", "short", "Of the optimiser.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialLearningRate)}{Experiment}")),
        Lines("Steps and samples a second", "short", "Over all trials.", new Query("steps", $"sum(rate({Of(Steps)}{Rate}))"), new Query("samples", $"sum(rate({Of(Samples)}{{work=\"gradient\"}}{Rate}))")),
        Lines("Network evaluations a second", "ops", "Forward, and backward for the adjoint; vector-Jacobian products with the latter.", new Query("{{phase}}", $"sum by (phase) (rate({Of(Nfe)}{Rate}))"), new Query("products", $"sum(rate({Of(Vjps)}{Rate}))")),
        Lines("Backward to forward", "short", "Time of the adjoint over that of sampling. About 3 for the discrete adjoint, which evaluates once more and multiplies by the Jacobian.", new Query("ratio", $"{Sum("backward")} / {Sum("forward")}")),
        Lines("Where a step's time goes", "s", "Mean seconds of a step by phase: waiting for shards, adding up, optimising, committing.", new Query("{{phase}}", $"sum by (phase) (rate({Of(StepDuration)}_sum{Rate})) / sum by (phase) (rate({Of(StepDuration)}_count{Rate}))")),
        Lines("Where a shard's time goes", "s", "Mean seconds of a gradient's shard by phase.", new Query("{{phase}}", $"sum by (phase) (rate({Of(ShardDuration)}_sum{{work=\"gradient\"}}{Rate})) / sum by (phase) (rate({Of(ShardDuration)}_count{{work=\"gradient\"}}{Rate}))")),
        new Panel("Shard times", "s", "How many shards took how long.", new Query("{{le}}", $"sum by (le) (increase({Of(ShardDuration)}_bucket{{phase=\"total\",work=\"gradient\"}}{Rate}))")) { Type = "heatmap" },
        Lines("Slowest worker", "s", "Mean seconds of a shard by silo: the step waits for the slowest.", new Query("{{instance}}", $"sum by (instance) (rate({Of(ShardDuration)}_sum{{phase=\"total\",work=\"gradient\"}}{Rate})) / sum by (instance) (rate({Of(ShardDuration)}_count{{phase=\"total\",work=\"gradient\"}}{Rate}))")),
        Lines("Shards that did not count", "short", "In 5 minutes: duplicates and stale ones cost time, a mismatch is a wrong computation.", new Query("{{outcome}}", $"sum by (outcome) (increase({Of(Shards)}{{outcome!=\"accepted\"}}[5m]))"), new Query("given out again", $"sum(increase({Of(Reissues)}[5m]))")),
        Lines("Gradient traffic", "Bps", "Bytes of gradients a second, and what streams beside messages.", new Query("gradients", $"sum(rate({Of(Gradient)}{Rate}))"), new Query("streamed", $"sum(rate({Of(TensorStream)}{Rate}))")),
        Lines("Compression", "short", "Bytes in float32 over bytes sent.", new Query("ratio", $"sum(increase({Of(GradientRaw)}[10m])) / (sum(increase({Of(Gradient)}[10m])) > 0)")),
        Lines("Not finite", "short", "Numbers that were not finite, in an hour. Each ended its trial.", new Query("events", $"sum(increase({Of(NonFinite)}[1h]))")),
        Lines("Age of the checkpoint", "s", "Since the trial last committed: what a crash of everything now would cost.", new Query("{{experiment}}/{{trial}}", $"time() - {Of(TrialCommitted)}{Experiment}")),
        Lines("Commit", "s", "95 of 100 commits of a step take less.", Quantile("p95", 0.95, StepDuration, "{phase=\"commit\"}")),
        Lines("Workers", "short", "A fall here with a rise in step time is a lost worker.", new Query("{{state}}", $"sum by (state) ({Of(Workers)})")),
        Lines("Coordinator", "short", "Number of the trial's coordinator: it grows when another silo takes it over.", new Query("{{experiment}}/{{trial}}", $"{Of(TrialEpoch)}{Experiment}")));

    public static IReadOnlyList<Board> All { get; } = [Fleet, Sweep, Training];

    private static string Experiment => "{experiment=~\"$experiment\"}";

    private static string Of(MetricDescription metric) => metric.PrometheusName;

    private static string Sum(string phase) => $"sum(rate({Of(ShardDuration)}_sum{{phase=\"{phase}\",work=\"gradient\"}}{Rate}))";

    private static Query Quantile(string legend, double quantile, MetricDescription metric, string labels = "") =>
        new(legend, FormattableString.Invariant($"histogram_quantile({quantile}, sum by (le) (rate({Of(metric)}_bucket{labels}{Rate})))"));

    private static Panel Lines(string title, string unit, string description, params Query[] queries) => new(title, unit, description, queries);

    private static Panel Stat(string title, string description, params Query[] queries) => new(title, "short", description, queries) { Type = "stat" };
}
