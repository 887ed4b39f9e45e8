using System.Reflection;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Every metric of this system. Instruments are made from this table, and tests hold the dashboards, the rules, docs/operations.md and a scrape of two silos against it.</summary>
/// <remarks>Base units; a label is bounded by the size of the cluster or by what runs at once. A trial is named only by gauges that end with it.</remarks>
internal static class AdjointDpmMetrics
{
    private const string Gpu = "GPUs whose driver's libnvidia-ml.so.1 can be loaded";

    public static readonly MetricDescription Steps = Counter("adjointdpm.steps", null, "Optimiser steps committed.");
    public static readonly MetricDescription Samples = Counter("adjointdpm.samples", null, "Samples drawn by workers, by work.", "work");
    public static readonly MetricDescription Nfe = Counter("adjointdpm.nfe", null, "Evaluations of the network, by phase.", "phase");
    public static readonly MetricDescription Vjps = Counter("adjointdpm.vjps", null, "Vector-Jacobian products of the network.");
    public static readonly MetricDescription Shards = Counter("adjointdpm.shards", null, "Contributions of shards as their coordinators saw them: accepted, duplicate, stale, mismatch, failed or lost.", "outcome");
    public static readonly MetricDescription Reissues = Counter("adjointdpm.shard.reissues", null, "Shards given to another attempt.");
    public static readonly MetricDescription Expirations = Counter("adjointdpm.lease.expirations", null, "Leases that were not renewed in time.");
    public static readonly MetricDescription WorkFailures = Counter("adjointdpm.work.failures", null, "Pieces of work that failed on this silo's workers: permanent, transient or memory.", "reason");
    public static readonly MetricDescription NonFinite = Counter("adjointdpm.nonfinite", null, "Samples, losses or gradients that were not finite, and ended their trial.");
    public static readonly MetricDescription TrialsEnded = Counter("adjointdpm.trials", null, "Trials that ended, by outcome.", "outcome");
    public static readonly MetricDescription TrialRetries = Counter("adjointdpm.trial.retries", null, "Trials that began something anew: after an error, for want of memory, after a lost range of parameters, because its storage was away, or because somebody asked.", "reason");
    public static readonly MetricDescription Recoveries = Counter("adjointdpm.coordinator.recoveries", null, "Coordinators that went on from a committed step.");
    public static readonly MetricDescription Gradient = Counter("adjointdpm.gradient", "By", "Bytes of gradients received by coordinators and by owners of ranges.");
    public static readonly MetricDescription GradientRaw = Counter("adjointdpm.gradient.raw", "By", "Bytes that the same gradients have without encoding.");
    public static readonly MetricDescription TensorStream = Counter("adjointdpm.tensor.stream", "By", "Bytes of tensors received over connections beside the messages.");
    public static readonly MetricDescription Refusals = Counter("adjointdpm.refusals", null, "Who was refused, by reason: token (wrong at gateway or HTTP port), certificate (none, or not the cluster's), call (not allowed to this user).", "reason");
    public static readonly MetricDescription StepDuration = Histogram("adjointdpm.step.duration", "Duration of a step, by phase: shards, reduce, optimize, commit.", "phase");
    public static readonly MetricDescription ShardDuration = Histogram("adjointdpm.shard.duration", "Duration of a shard on its worker, by phase (fetch, queue, forward, loss, backward, total) and work.", "phase", "work");
    public static readonly MetricDescription SuggestDuration = Histogram("adjointdpm.suggest.duration", "How long a search took to name a trial's values, by algorithm.", "algorithm");
    public static readonly MetricDescription TrialWait = Histogram("adjointdpm.trial.wait.duration", "From the submission of an experiment, or the end of the trial whose place it takes, to the start of a trial's coordinator.");

    public static readonly MetricDescription TrialsActive = Gauge("adjointdpm.trials.active", null, "Trials whose coordinator lives on this silo.", "state");
    public static readonly MetricDescription Workers = Gauge("adjointdpm.workers", null, "Devices of this silo by state: ready, busy, cordoned, draining.", "state");
    public static readonly MetricDescription Leases = Gauge("adjointdpm.leases", null, "Shards that coordinators on this silo have leased to workers.");
    public static readonly MetricDescription QueueDepth = Gauge("adjointdpm.queue.depth", null, "What waits: trials for a place in their experiment, shards for a worker, work at this silo's devices.", "queue");
    public static readonly MetricDescription ExperimentTrials = Gauge("adjointdpm.experiment.trials", null, "Trials of a running experiment, by state; told by the silo that owns it.", "experiment", "state") with { EmptyWithout = "silos that own a running experiment" };
    public static readonly MetricDescription ExperimentBest = Gauge("adjointdpm.experiment.best", null, "Best number of the (first) objective among the trials of a running experiment that have succeeded.", "experiment", "metric") with { EmptyWithout = "running experiments of which a trial has succeeded" };
    public static readonly MetricDescription ExperimentEvaluations = Gauge("adjointdpm.experiment.evaluations", null, "Evaluations of the network that a running experiment has cost.", "experiment") with { EmptyWithout = "silos that own a running experiment" };

    public static readonly MetricDescription TrialLoss = OfTrial("adjointdpm.trial.loss", null, "Training loss of the newest committed step.");
    public static readonly MetricDescription TrialLossPart = OfTrial("adjointdpm.trial.loss.part", null, "The parts of the loss, and whatever else a step records: rewards, constraints.", "part");
    public static readonly MetricDescription TrialHeldOut = OfTrial("adjointdpm.trial.heldout.loss", null, "Newest loss on noise that training never sees: before training, and at every look.");
    public static readonly MetricDescription TrialGradientNorm = OfTrial("adjointdpm.trial.gradient.norm", null, "L2 norm of the newest gradient before clipping.");
    public static readonly MetricDescription TrialLearningRate = OfTrial("adjointdpm.trial.learning.rate", null, "Learning rate of the optimiser.");
    public static readonly MetricDescription TrialStep = OfTrial("adjointdpm.trial.step", null, "Steps committed.");
    public static readonly MetricDescription TrialSteps = OfTrial("adjointdpm.trial.steps", null, "Steps planned.");
    public static readonly MetricDescription TrialEpoch = OfTrial("adjointdpm.trial.epoch", null, "Number of the trial's coordinator: it grows when another silo takes it over.");
    public static readonly MetricDescription TrialCommitted = OfTrial("adjointdpm.trial.committed.timestamp", "s", "When the trial last committed something, in seconds since 1970: its age is that of the checkpoint.");

    public static readonly MetricDescription PeakTensors = Gauge("adjointdpm.tensors.peak", null, "Most tensors alive at once in the newest shard on this silo.");
    public static readonly MetricDescription LiveTensors = Gauge("adjointdpm.tensors.live", null, "Tensors that TorchSharp counts as alive in this process. It counts a parameter of a network twice when it is made and once when it is freed, so this grows by a network's parameters whenever one is loaded.");
    public static readonly MetricDescription HostMemory = Gauge("adjointdpm.host.memory", "By", "Memory of the machine, or of the container where that has a limit: used and total.", "state");
    public static readonly MetricDescription Disk = Gauge("adjointdpm.disk", "By", "The disk of the data folder: free and total.", "state");
    public static readonly MetricDescription CertificateExpiry = Gauge("adjointdpm.certificate.expiry.timestamp", "s", "When this silo's certificate runs out, in seconds since 1970.") with { EmptyWithout = "silos with Security:TlsFolder" };
    public static readonly MetricDescription Build = Gauge("adjointdpm.build.info", null, "1, with the version of this silo.", "version");
    public static readonly MetricDescription DeviceUtilization = OfDevice("adjointdpm.device.utilization", null, "Share of the last sampling period in which the GPU computed, from 0 to 1.");
    public static readonly MetricDescription DeviceMemory = OfDevice("adjointdpm.device.memory", "By", "Memory of the GPU: used and total, whoever uses it.", "state");
    public static readonly MetricDescription DevicePower = OfDevice("adjointdpm.device.power", "W", "Power that the GPU draws.");
    public static readonly MetricDescription DeviceTemperature = OfDevice("adjointdpm.device.temperature", "Cel", "Temperature of the GPU.");
    public static readonly MetricDescription DeviceErrors = new(MetricKind.Counter, "adjointdpm.device.errors", null, "Errors of the GPU since the driver was loaded (ecc_corrected, ecc_uncorrected) or the silo started (xid).", ["gpu", "kind"], Gpu);

    /// <summary>All of them, by name.</summary>
    public static IReadOnlyList<MetricDescription> All { get; } =
        [.. typeof(AdjointDpmMetrics).GetFields(BindingFlags.Public | BindingFlags.Static).Select(field => field.GetValue(null)).OfType<MetricDescription>().OrderBy(metric => metric.Name, StringComparer.Ordinal)];

    /// <summary>Gauges that name a trial, as long as it runs.</summary>
    public static IEnumerable<MetricDescription> OfLiveTrials => All.Where(metric => metric.Labels.Contains("trial"));

    private static MetricDescription Counter(string name, string? unit, string help, params string[] labels) => new(MetricKind.Counter, name, unit, help, labels);

    private static MetricDescription Gauge(string name, string? unit, string help, params string[] labels) => new(MetricKind.Gauge, name, unit, help, labels);

    private static MetricDescription Histogram(string name, string help, params string[] labels) => new(MetricKind.Histogram, name, "s", help, labels);

    private static MetricDescription OfTrial(string name, string? unit, string help, params string[] more) => new(MetricKind.Gauge, name, unit, help, [.. more.Append("experiment").Append("trial").Order(StringComparer.Ordinal)], "running trials");

    private static MetricDescription OfDevice(string name, string? unit, string help, params string[] more) => new(MetricKind.Gauge, name, unit, help, ["gpu", .. more], Gpu);
}
