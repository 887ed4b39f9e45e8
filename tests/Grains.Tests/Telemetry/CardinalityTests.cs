using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Globalization;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Tests.Cluster;
using Microsoft.Extensions.DependencyInjection;

namespace AdjointDpm.Grains.Tests.Telemetry;

/// <summary>What a Prometheus would have to keep of a thousand trials.</summary>
public sealed class CardinalityTests
{
    private const int Trials = 1000, AtOnce = 8;

    [Fact]
    public async Task ThousandTrials_LeaveAHandfulOfSeries_AndNoneOfATrial()
    {
        await using var cluster = await SmallCluster.StartAsync(silos: 1);
        var services = cluster.Cluster.Silos[0].ServiceProvider;
        var meters = services.GetRequiredService<IMeterFactory>();
        var series = new ConcurrentDictionary<string, ConcurrentDictionary<string, bool>>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listening) =>
            {
                if (instrument.Meter.Name == AdjointDpmInstruments.MeterName && ReferenceEquals(instrument.Meter.Scope, meters))
                    listening.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, _, labels, _) => Note(instrument, labels));
        listener.SetMeasurementEventCallback<double>((instrument, _, labels, _) => Note(instrument, labels));
        listener.Start();
        // As at the start of a silo, which this listener was too late for.
        services.GetRequiredService<AdjointDpmInstruments>().Zero();
        var live = services.GetRequiredService<LiveGauges>();
        var most = 0;

        var spec = TestSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = [.. Enumerable.Range(1, Trials).Select(i => i.ToString(CultureInfo.InvariantCulture))] } },
            Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
            Training = new TrainingSpec { Steps = 1, Shards = 1, SamplesPerShard = 1 },
            HeldOut = new HeldOutSpec { Samples = 1 },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
            MaxConcurrentTrials = AtOnce,
        };
        var experiment = cluster.Experiment("thousand");
        await experiment.SubmitAsync(TestSpecs.Submission(spec), TestContext.Current.CancellationToken);
        ExperimentSnapshot snapshot;
        do
        {
            listener.RecordObservableInstruments();
            most = Math.Max(most, live.Read().Split('\n').Count(line => line.StartsWith(AdjointDpmMetrics.TrialStep.PrometheusName + "{", StringComparison.Ordinal)));
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, TestContext.Current.CancellationToken);
            snapshot = (await experiment.GetSnapshotAsync(TestContext.Current.CancellationToken))!;
        }
        while (snapshot.Summary.EndedAt is null);

        Assert.Equal(Trials, snapshot.Summary.TrialsEnded);
        Assert.All(AdjointDpmMetrics.All.Where(metric => metric.EmptyWithout is null), metric => Assert.True(series.ContainsKey(metric.Name) || metric == AdjointDpmMetrics.TrialWait || metric == AdjointDpmMetrics.Refusals, metric.Name));
        Assert.All(series, pair => Assert.InRange(pair.Value.Count, 1, 42));
        Assert.DoesNotContain(series.Values.SelectMany(labels => labels.Keys), labels => labels.Contains("thousand", StringComparison.Ordinal) || labels.Contains("trial=", StringComparison.Ordinal));
        // Those that run, and for a moment those that have just ended; then none.
        Assert.InRange(most, 1, 2 * AtOnce);
        await WaitAsync(() => !live.Read().Contains("thousand", StringComparison.Ordinal));

        void Note(Instrument instrument, ReadOnlySpan<KeyValuePair<string, object?>> labels) =>
            series.GetOrAdd(instrument.Name, _ => new())[string.Join(',', labels.ToArray().Select(label => $"{label.Key}={label.Value}"))] = true;
    }

    [Fact]
    public void LiveGauges_EscapeLabels_AndForgetWhatHasEnded()
    {
        using var services = new ServiceCollection().AddMetrics().AddSingleton<AdjointDpmInstruments>().AddSingleton<LiveGauges>().BuildServiceProvider();
        var live = services.GetRequiredService<LiveGauges>();
        var instruments = services.GetRequiredService<AdjointDpmInstruments>();
        Assert.Equal("", live.Read());
        using (var trial = instruments.TrialLives("a\"b\\c\nd", 7))
        {
            Assert.DoesNotContain("trial=", live.Read(), StringComparison.Ordinal);
            trial.Show(new LiveTrialValues(new Dictionary<string, double> { ["loss"] = double.NaN, ["gradientNorm"] = double.PositiveInfinity, ["heldOut.loss.before"] = 0.5, ["gramStyle"] = 2 }, 3, 4, 1, 1e-5, DateTimeOffset.FromUnixTimeMilliseconds(1500)));
            var lines = live.Read().Split('\n');
            Assert.Contains("adjointdpm_trial_loss{experiment=\"a\\\"b\\\\c\\nd\",trial=\"7\"} NaN", lines);
            Assert.Contains(lines, line => line.StartsWith("adjointdpm_trial_gradient_norm{", StringComparison.Ordinal) && line.EndsWith(" +Inf", StringComparison.Ordinal));
            Assert.Contains(lines, line => line.StartsWith("adjointdpm_trial_heldout_loss{", StringComparison.Ordinal) && line.EndsWith(" 0.5", StringComparison.Ordinal));
            Assert.Contains(lines, line => line.StartsWith("adjointdpm_trial_loss_part{", StringComparison.Ordinal) && line.Contains("part=\"gramStyle\"", StringComparison.Ordinal) && line.EndsWith(" 2", StringComparison.Ordinal));
            Assert.Contains(lines, line => line.StartsWith("adjointdpm_trial_committed_timestamp_seconds{", StringComparison.Ordinal) && line.EndsWith(" 1.5", StringComparison.Ordinal));
            Assert.Contains(lines, line => line.StartsWith("adjointdpm_trial_learning_rate{", StringComparison.Ordinal) && line.EndsWith(" 1E-05", StringComparison.Ordinal));
        }
        Assert.Equal("", live.Read());
    }

    private static async Task WaitAsync(Func<bool> condition)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!condition())
        {
            Assert.False(timeout.IsCancellationRequested, "The condition did not come true in 60 s.");
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }
}
