using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Counts what happens on this silo. One method per event; the instruments are those of <see cref="AdjointDpmMetrics"/>.</summary>
internal sealed class AdjointDpmInstruments : IDisposable
{
    public const string MeterName = "AdjointDpm";

    private readonly Meter _meter;
    private readonly Meter _live;
    private readonly Counter<long> _steps;
    private readonly Counter<long> _samples;
    private readonly Counter<long> _nfe;
    private readonly Counter<long> _vjps;
    private readonly Counter<long> _shards;
    private readonly Counter<long> _reissues;
    private readonly Counter<long> _expirations;
    private readonly Counter<long> _workFailures;
    private readonly Counter<long> _nonFinite;
    private readonly Counter<long> _trialsEnded;
    private readonly Counter<long> _trialRetries;
    private readonly Counter<long> _recoveries;
    private readonly Counter<long> _gradientBytes;
    private readonly Counter<long> _gradientRawBytes;
    private readonly Counter<long> _streamedBytes;
    private readonly Gauge<long> _peakTensors;
    private readonly Histogram<double> _stepSeconds;
    private readonly Histogram<double> _shardSeconds;
    private readonly Histogram<double> _suggestSeconds;
    private readonly Histogram<double> _trialWaitSeconds;
    private readonly ConcurrentDictionary<LiveTrial, bool> _trials = new();
    private readonly ConcurrentDictionary<LiveExperiment, bool> _experiments = new();
    private readonly ConcurrentDictionary<string, int> _busy = new();
    private long _leases;
    private long _shardsWaiting;
    private long _workWaiting;

    public AdjointDpmInstruments(IMeterFactory meters)
    {
        _meter = meters.Create(MeterName);
        _live = meters.Create(LiveGauges.MeterName);
        _steps = AdjointDpmMetrics.Steps.CounterOf(_meter);
        _samples = AdjointDpmMetrics.Samples.CounterOf(_meter);
        _nfe = AdjointDpmMetrics.Nfe.CounterOf(_meter);
        _vjps = AdjointDpmMetrics.Vjps.CounterOf(_meter);
        _shards = AdjointDpmMetrics.Shards.CounterOf(_meter);
        _reissues = AdjointDpmMetrics.Reissues.CounterOf(_meter);
        _expirations = AdjointDpmMetrics.Expirations.CounterOf(_meter);
        _workFailures = AdjointDpmMetrics.WorkFailures.CounterOf(_meter);
        _nonFinite = AdjointDpmMetrics.NonFinite.CounterOf(_meter);
        _trialsEnded = AdjointDpmMetrics.TrialsEnded.CounterOf(_meter);
        _trialRetries = AdjointDpmMetrics.TrialRetries.CounterOf(_meter);
        _recoveries = AdjointDpmMetrics.Recoveries.CounterOf(_meter);
        _gradientBytes = AdjointDpmMetrics.Gradient.CounterOf(_meter);
        _gradientRawBytes = AdjointDpmMetrics.GradientRaw.CounterOf(_meter);
        _streamedBytes = AdjointDpmMetrics.TensorStream.CounterOf(_meter);
        _peakTensors = AdjointDpmMetrics.PeakTensors.GaugeOf(_meter);
        _stepSeconds = AdjointDpmMetrics.StepDuration.HistogramOf(_meter);
        _shardSeconds = AdjointDpmMetrics.ShardDuration.HistogramOf(_meter);
        _suggestSeconds = AdjointDpmMetrics.SuggestDuration.HistogramOf(_meter);
        _trialWaitSeconds = AdjointDpmMetrics.TrialWait.HistogramOf(_meter);
        AdjointDpmMetrics.TrialsActive.Observe(_meter, () => [new(_trials.Count, Label("state", "running"))]);
        AdjointDpmMetrics.Leases.Observe(_meter, () => [new(Interlocked.Read(ref _leases))]);
        AdjointDpmMetrics.QueueDepth.Observe(_meter, () =>
        [
            new(_experiments.Keys.Sum(experiment => experiment.Values?.Trials.GetValueOrDefault("queued") ?? 0), Label("queue", "trials")),
            new(Interlocked.Read(ref _shardsWaiting), Label("queue", "shards")),
            new(Interlocked.Read(ref _workWaiting), Label("queue", "devices")),
        ]);
        ObserveExperiments();
        ObserveTrials();
    }

    /// <summary>Tells every counter's zero: from nothing to one Prometheus sees no increase, and the first event of a kind is the one to hear of.</summary>
    public void Zero()
    {
        foreach (var counter in new[] { _steps, _vjps, _reissues, _expirations, _nonFinite, _recoveries, _gradientBytes, _gradientRawBytes, _streamedBytes })
            counter.Add(0);
        Each(_samples, "work", Enum.GetValues<WorkKind>().Select(KindOf).Distinct());
        Each(_nfe, "phase", ["forward", "backward"]);
        Each(_shards, "outcome", [.. Enum.GetNames<ContributionOutcome>(), "failed", "lost"]);
        Each(_workFailures, "reason", ["memory", "permanent", "transient"]);
        Each(_trialsEnded, "outcome", [nameof(RunState.Succeeded), nameof(RunState.Failed), nameof(RunState.Cancelled), nameof(RunState.Stopped)]);
        Each(_trialRetries, "reason", Enum.GetNames<TrialRetry>());

        static void Each(Counter<long> counter, string label, IEnumerable<string> values)
        {
            foreach (var value in values)
                counter.Add(0, Label(label, value.ToLowerInvariant()));
        }
    }

    public void WorkFinished(WorkKind kind, WorkStatistics statistics)
    {
        var work = Label("work", KindOf(kind));
        _samples.Add(statistics.Samples, work);
        _nfe.Add(statistics.ForwardNfe, Label("phase", "forward"));
        _nfe.Add(statistics.BackwardNfe, Label("phase", "backward"));
        _vjps.Add(statistics.Vjps);
        _peakTensors.Record(statistics.PeakLiveTensors);
        Shard("fetch", statistics.FetchSeconds);
        Shard("queue", statistics.QueueSeconds);
        Shard("forward", statistics.ForwardSeconds);
        Shard("loss", statistics.LossSeconds);
        Shard("backward", statistics.BackwardSeconds);
        Shard("total", statistics.TotalSeconds);

        void Shard(string phase, double seconds) => _shardSeconds.Record(seconds, Label("phase", phase), work);
    }

    public void WorkFailed(WorkFailure failure)
    {
        _workFailures.Add(1, Label("reason", failure.OutOfMemory ? "memory" : failure.Permanent ? "permanent" : "transient"));
        if (failure.NonFinite)
            _nonFinite.Add(1);
    }

    /// <summary>A device of this silo begins with work, or ends it.</summary>
    public void WorkerBusy(string worker, int change) => _busy.AddOrUpdate(worker, change, (_, busy) => busy + change);

    /// <summary>Whether a device of this silo computes.</summary>
    public bool IsBusy(string worker) => _busy.GetValueOrDefault(worker) > 0;

    /// <summary>Work waits for a device of this silo, or no longer.</summary>
    public void WorkWaits(int change) => Interlocked.Add(ref _workWaiting, change);

    /// <summary>A round of work under way on this silo, until it is disposed.</summary>
    public RoundLoad RoundBegins() => new(this);

    public void ShardContributed(ContributionOutcome outcome) => _shards.Add(1, Label("outcome", outcome.ToString().ToLowerInvariant()));

    public void ShardFailed(bool permanent) => _shards.Add(1, Label("outcome", permanent ? "failed" : "lost"));

    public void ShardReissued() => _reissues.Add(1);

    public void LeaseExpired() => _expirations.Add(1);

    public void GradientReceived(long bytes, long rawBytes)
    {
        _gradientBytes.Add(bytes);
        _gradientRawBytes.Add(rawBytes);
    }

    public void TensorStreamed(int bytes) => _streamedBytes.Add(bytes);

    public void StepCommitted(in StepSeconds seconds)
    {
        _steps.Add(1);
        Step("shards", seconds.Shards);
        Step("reduce", seconds.Reduce);
        Step("optimize", seconds.Optimize);
        Step("commit", seconds.Commit);

        void Step(string phase, double value) => _stepSeconds.Record(value, Label("phase", phase));
    }

    public void GradientNotFinite() => _nonFinite.Add(1);

    public void Suggested(string algorithm, TimeSpan took) => _suggestSeconds.Record(took.TotalSeconds, Label("algorithm", algorithm));

    public void TrialWaited(TimeSpan waited) => _trialWaitSeconds.Record(Math.Max(0, waited.TotalSeconds));

    /// <summary>A trial's coordinator lives on this silo from now on, until the result is disposed.</summary>
    public LiveTrial TrialLives(string experiment, int index)
    {
        var trial = new LiveTrial(experiment, index, ended => _trials.TryRemove(ended, out _));
        _trials[trial] = true;
        return trial;
    }

    /// <summary>This silo owns a running experiment from now on, until the result is disposed.</summary>
    public LiveExperiment ExperimentLives(string id)
    {
        var experiment = new LiveExperiment(id, ended => _experiments.TryRemove(ended, out _));
        _experiments[experiment] = true;
        return experiment;
    }

    public void TrialEnded(string outcome) => _trialsEnded.Add(1, Label("outcome", outcome));

    public void TrialRetried(TrialRetry reason) => _trialRetries.Add(1, Label("reason", reason.ToString().ToLowerInvariant()));

    public void CoordinatorRecovered() => _recoveries.Add(1);

    public void Dispose()
    {
        _meter.Dispose();
        _live.Dispose();
    }

    /// <summary>What a round has leased to workers, and what of it waits for one.</summary>
    public sealed class RoundLoad(AdjointDpmInstruments instruments) : IDisposable
    {
        private int _leased;
        private int _waiting;

        public void Show(int leased, int waiting)
        {
            Interlocked.Add(ref instruments._leases, leased - _leased);
            Interlocked.Add(ref instruments._shardsWaiting, waiting - _waiting);
            (_leased, _waiting) = (leased, waiting);
        }

        public void Dispose() => Show(0, 0);
    }

    private static KeyValuePair<string, object?> Label(string name, string value) => new(name, value);

    private void ObserveExperiments()
    {
        AdjointDpmMetrics.ExperimentTrials.Observe(_live, () => Live((id, values) => values.Trials.Select(pair => new Measurement<double>(pair.Value, Label("experiment", id), Label("state", pair.Key)))));
        AdjointDpmMetrics.ExperimentBest.Observe(_live, () => Live((id, values) => values.Best is { } best ? [new(best, Label("experiment", id), Label("metric", values.Metric))] : []));
        AdjointDpmMetrics.ExperimentEvaluations.Observe(_live, () => Live((id, values) => [new(values.Evaluations, Label("experiment", id))]));

        IEnumerable<Measurement<double>> Live(Func<string, LiveExperimentValues, IEnumerable<Measurement<double>>> tell) =>
            _experiments.Keys.SelectMany(experiment => experiment.Values is { } values ? tell(experiment.Id, values) : []);
    }

    private void ObserveTrials()
    {
        Of(AdjointDpmMetrics.TrialLoss, values => Metric(values, "loss"));
        Of(AdjointDpmMetrics.TrialHeldOut, values => Metric(values, "heldOut.loss") ?? Metric(values, "heldOut.loss.before"));
        Of(AdjointDpmMetrics.TrialGradientNorm, values => Metric(values, "gradientNorm"));
        Of(AdjointDpmMetrics.TrialLearningRate, values => values.LearningRate);
        Of(AdjointDpmMetrics.TrialStep, values => values.Step);
        Of(AdjointDpmMetrics.TrialSteps, values => values.Steps);
        Of(AdjointDpmMetrics.TrialEpoch, values => values.Epoch);
        Of(AdjointDpmMetrics.TrialCommitted, values => values.At.ToUnixTimeMilliseconds() / 1e3);
        AdjointDpmMetrics.TrialLossPart.Observe(_live, () => Live().SelectMany(live => live.Values.Metrics
            .Where(metric => metric.Key is not ("loss" or "gradientNorm") && !metric.Key.StartsWith("heldOut.", StringComparison.Ordinal) && !metric.Key.EndsWith(".before", StringComparison.Ordinal) && !metric.Key.EndsWith(".after", StringComparison.Ordinal))
            .Select(metric => new Measurement<double>(metric.Value, Label("experiment", live.Trial.Experiment), Label("part", metric.Key), Label("trial", live.Trial.Index)))));

        void Of(MetricDescription metric, Func<LiveTrialValues, double?> read) => metric.Observe(_live, () =>
            from live in Live()
            let value = read(live.Values)
            where value is not null
            select new Measurement<double>(value.Value, Label("experiment", live.Trial.Experiment), Label("trial", live.Trial.Index)));

        IEnumerable<(LiveTrial Trial, LiveTrialValues Values)> Live() => from trial in _trials.Keys let values = trial.Values where values is not null select (trial, values);

        static double? Metric(LiveTrialValues values, string name) => values.Metrics.TryGetValue(name, out var value) ? value : null;
    }

    private static string KindOf(WorkKind kind) => kind switch
    {
        WorkKind.EvaluateBefore or WorkKind.EvaluateAfter or WorkKind.Guard => "evaluate",
        _ => kind.ToString().ToLowerInvariant(),
    };
}

/// <summary>Why a trial began something anew.</summary>
internal enum TrialRetry
{
    /// <summary>An error that may not come again.</summary>
    Error,

    /// <summary>A worker had no memory for a shard.</summary>
    Memory,

    /// <summary>A silo that owned a range of its parameters is gone.</summary>
    Range,

    /// <summary>Its storage did not answer.</summary>
    Storage,

    /// <summary>Somebody asked.</summary>
    User,
}

/// <summary>Where the time of a step went.</summary>
internal readonly record struct StepSeconds(double Shards, double Reduce, double Optimize, double Commit);
