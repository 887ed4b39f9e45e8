using System.Diagnostics.Metrics;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Everything this system counts. One method per event; labels are bounded: never a trial, never a step.</summary>
/// <remarks>Instrument names become Prometheus names with <c>_</c> for <c>.</c>, the unit and <c>_total</c> appended.</remarks>
internal sealed class AdjointDpmInstruments : IDisposable
{
    public const string MeterName = "AdjointDpm";

    private readonly Meter _meter;
    private readonly Counter<long> _steps;
    private readonly Counter<long> _samples;
    private readonly Counter<long> _nfe;
    private readonly Counter<long> _vjps;
    private readonly Counter<long> _shards;
    private readonly Counter<long> _reissues;
    private readonly Counter<long> _expirations;
    private readonly Counter<long> _trialsEnded;
    private readonly Counter<long> _recoveries;
    private readonly Counter<long> _gradientBytes;
    private readonly Counter<long> _streamedBytes;
    private readonly UpDownCounter<long> _trials;
    private readonly UpDownCounter<long> _busy;
    private readonly Gauge<double> _loss;
    private readonly Gauge<double> _gradientNorm;
    private readonly Gauge<long> _peakTensors;
    private readonly Histogram<double> _stepSeconds;
    private readonly Histogram<double> _shardSeconds;

    public AdjointDpmInstruments(IMeterFactory meters)
    {
        _meter = meters.Create(MeterName);
        _steps = _meter.CreateCounter<long>("adjointdpm.steps", null, "Optimiser steps committed.");
        _samples = _meter.CreateCounter<long>("adjointdpm.samples", null, "Samples drawn by workers.");
        _nfe = _meter.CreateCounter<long>("adjointdpm.nfe", null, "Evaluations of the network, by phase.");
        _vjps = _meter.CreateCounter<long>("adjointdpm.vjps", null, "Vector-Jacobian products of the network.");
        _shards = _meter.CreateCounter<long>("adjointdpm.shards", null, "Contributions of shards, by outcome.");
        _reissues = _meter.CreateCounter<long>("adjointdpm.shard.reissues", null, "Shards given to another attempt.");
        _expirations = _meter.CreateCounter<long>("adjointdpm.lease.expirations", null, "Leases that were not renewed in time.");
        _trialsEnded = _meter.CreateCounter<long>("adjointdpm.trials", null, "Trials that ended, by outcome.");
        _recoveries = _meter.CreateCounter<long>("adjointdpm.coordinator.recoveries", null, "Coordinators that went on from a committed step.");
        _gradientBytes = _meter.CreateCounter<long>("adjointdpm.gradient", "By", "Bytes of gradients received by coordinators and by owners of ranges.");
        _streamedBytes = _meter.CreateCounter<long>("adjointdpm.tensor.stream", "By", "Bytes of tensors received over connections beside the messages.");
        _trials = _meter.CreateUpDownCounter<long>("adjointdpm.trials.active", null, "Trials whose coordinator lives on this silo, by state.");
        _busy = _meter.CreateUpDownCounter<long>("adjointdpm.workers.busy", null, "Devices of this silo that compute, by kind of work.");
        _loss = _meter.CreateGauge<double>("adjointdpm.loss", null, "Training loss of the newest committed step on this silo.");
        _gradientNorm = _meter.CreateGauge<double>("adjointdpm.gradient.norm", null, "L2 norm of the newest gradient before clipping, on this silo.");
        _peakTensors = _meter.CreateGauge<long>("adjointdpm.peak.tensors", null, "Most tensors alive at once in the newest shard on this silo.");
        _stepSeconds = _meter.CreateHistogram<double>("adjointdpm.step.duration", "s", "Duration of a step, by phase.");
        _shardSeconds = _meter.CreateHistogram<double>("adjointdpm.shard.duration", "s", "Duration of a shard on its worker, by phase.");
    }

    public void WorkFinished(WorkKind kind, WorkStatistics statistics)
    {
        var work = new KeyValuePair<string, object?>("work", KindOf(kind));
        _samples.Add(statistics.Samples, work);
        _nfe.Add(statistics.ForwardNfe, new KeyValuePair<string, object?>("phase", "forward"));
        _nfe.Add(statistics.BackwardNfe, new KeyValuePair<string, object?>("phase", "backward"));
        _vjps.Add(statistics.Vjps);
        _peakTensors.Record(statistics.PeakLiveTensors);
        Shard("fetch", statistics.FetchSeconds);
        Shard("queue", statistics.QueueSeconds);
        Shard("forward", statistics.ForwardSeconds);
        Shard("loss", statistics.LossSeconds);
        Shard("backward", statistics.BackwardSeconds);
        Shard("total", statistics.TotalSeconds);

        void Shard(string phase, double seconds) => _shardSeconds.Record(seconds, new("phase", phase), work);
    }

    public void WorkerBusy(WorkKind kind, int change) => _busy.Add(change, new KeyValuePair<string, object?>("work", KindOf(kind)));

    public void ShardContributed(ContributionOutcome outcome) => _shards.Add(1, new KeyValuePair<string, object?>("outcome", outcome.ToString().ToLowerInvariant()));

    public void ShardFailed(bool permanent) => _shards.Add(1, new KeyValuePair<string, object?>("outcome", permanent ? "failed" : "lost"));

    public void ShardReissued() => _reissues.Add(1);

    public void LeaseExpired() => _expirations.Add(1);

    public void GradientReceived(long bytes) => _gradientBytes.Add(bytes);

    public void TensorStreamed(int bytes) => _streamedBytes.Add(bytes);

    public void StepCommitted(double loss, double gradientNorm, in StepSeconds seconds)
    {
        _steps.Add(1);
        _loss.Record(loss);
        _gradientNorm.Record(gradientNorm);
        Step("shards", seconds.Shards);
        Step("reduce", seconds.Reduce);
        Step("optimize", seconds.Optimize);
        Step("commit", seconds.Commit);

        void Step(string phase, double value) => _stepSeconds.Record(value, new KeyValuePair<string, object?>("phase", phase));
    }

    public void TrialActive(int change) => _trials.Add(change, new KeyValuePair<string, object?>("state", "running"));

    public void TrialEnded(string outcome) => _trialsEnded.Add(1, new KeyValuePair<string, object?>("outcome", outcome));

    public void CoordinatorRecovered() => _recoveries.Add(1);

    public void Dispose() => _meter.Dispose();

    private static string KindOf(WorkKind kind) => kind switch
    {
        WorkKind.EvaluateBefore or WorkKind.EvaluateAfter or WorkKind.Guard => "evaluate",
        _ => kind.ToString().ToLowerInvariant(),
    };
}

/// <summary>Where the time of a step went.</summary>
internal readonly record struct StepSeconds(double Shards, double Reduce, double Optimize, double Commit);
