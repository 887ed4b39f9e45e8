using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

// What is written down, committed and kept.
internal sealed partial class TrialLoop
{
    /// <summary>Writes down how the next commit came about.</summary>
    private async Task<LedgerRecord> RecordAsync(LedgerRecord record)
    {
        record = record.Sealed();
        await files.AppendAsync(record);
        State.LedgerSha256 = record.Sha256;
        return record;
    }

    /// <summary>Makes a step true: its version and its record are on the disk no later than the state that names them.</summary>
    private async Task CommitStepAsync(LedgerRecord record, KeptVersion version, WorkResult[] shards, SteppedVersion stepped, bool isFollowed, StepSeconds seconds)
    {
        // A silo that stops commits what it has at once.
        if (isFollowed)
            await Task.Delay(Courtesy, time, stopping).ConfigureAwait(ConfigureAwaitOptions.ContinueOnCapturedContext | ConfigureAwaitOptions.SuppressThrowing);
        var began = time.GetTimestamp();
        State.OptimizerSha256 = version.Optimizer = await stepped.WriteAsync();
        record = await RecordAsync(record with { OptimizerSha256 = version.Optimizer });
        await CommitAsync();

        // From here on nothing needs the version before it, except for replays, and the very first for the pictures.
        seconds = seconds with { Commit = time.GetElapsedTime(began).TotalSeconds };
        instruments.StepCommitted(seconds);
        Spend(times => times with { Shards = times.Shards + seconds.Shards, Reduce = times.Reduce + seconds.Reduce, Optimize = times.Optimize + seconds.Optimize });
        _profiles.Step(record.Step, shards, seconds);
        await _profiles.WriteAsync(now: record.Step == _spec.Training.Steps);
        reporter.Step(StepRecord.Of(record));
        _trained!.Committed();
        await KeepAsync(running: true);
    }

    /// <summary>Waits for the commit under way; afterwards the state is what is committed.</summary>
    private async Task SettleAsync()
    {
        if (_committing is not { } committing)
            return;
        _committing = null;
        var began = time.GetTimestamp();
        await committing;
        Spend(times => times with { Commit = times.Commit + time.GetElapsedTime(began).TotalSeconds });
    }

    private async Task CommitAsync()
    {
        State.CommittedAt = time.GetUtcNow();
        using (Traces.Start("commit"))
            await store.CommitAsync();
        marks.Clear(IsOver);
        _committedAt = time.GetTimestamp();
        Show();
    }

    /// <summary>What is committed, for whoever watches the metrics. A coordinator that begins anew again and again commits nothing by that; only rest is no standstill.</summary>
    private void Show() => live.Show(new LiveTrialValues(new Dictionary<string, double>(State.Metrics), State.Step, _spec.Training.Steps, State.Epoch, _spec.Optimizer.LearningRate, Rests() ? time.GetUtcNow() : State.CommittedAt ?? time.GetUtcNow()));

    /// <summary>Whether a piece of work is behind the newest commit: it will never be done again.</summary>
    private bool IsOver(ShardToken work) => TrialTable.IsEnded(State.State) || work.Kind switch
    {
        WorkKind.Prepare => State.Phase > TrialPhase.Preparing,
        WorkKind.Prove => State.Phase > TrialPhase.Proving,
        WorkKind.EvaluateBefore => State.Phase > TrialPhase.EvaluatingBefore,
        WorkKind.Draw => State.Phase > TrialPhase.Training || work.Step < State.Step || work.Step <= State.PicturedStep,
        WorkKind.Gradient => State.Phase > TrialPhase.Training || work.Step < State.Step,
        WorkKind.EvaluateAfter => State.Phase > TrialPhase.EvaluatingAfter,
        _ => false,
    };

    private Task CommitLaterAsync() => time.GetElapsedTime(_committedAt) < Brief ? Task.CompletedTask : CommitAsync();

    private LedgerRecord Record(long weight, IReadOnlyDictionary<string, double> metrics) => new()
    {
        Run = ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index),
        Step = State.Step,
        Epoch = State.Epoch,
        Contributions = [],
        Weight = weight,
        Metrics = metrics,
        ParametersSha256 = State.ParametersSha256!,
        OptimizerSha256 = State.OptimizerSha256,
        Previous = State.LedgerSha256 ?? "",
    };

    /// <summary>Removes versions that neither the next step nor a replay of the newest ones starts from.</summary>
    /// <param name="running">Whether the newest version is needed, to go on from, and the first for the pictures.</param>
    private async Task KeepAsync(bool running)
    {
        var unused = new List<KeptVersion>();
        var most = _spec.Checkpoint.KeepSteps ?? 0;
        if (running)
            most = Math.Max(most, EncodedGradient.Since(_spec.Training, State.Step));
        while (_kept.Count > most + 1)
            unused.Add(_kept.Dequeue());
        var kept = running ? _kept.ToList() : [.. _kept.SkipLast(1)];
        if (running && State.InitialSha256 is { } initial)
        {
            kept.Add(new KeptVersion(initial));
            if (State.BestSha256 is { } best)
                kept.Add(new KeptVersion(best));
        }
        else if (!running)
        {
            if (State.Assignment!.KeepLast)
                kept.AddRange(_kept.TakeLast(1));
            else
                unused.AddRange(_kept.TakeLast(1));
            unused.Add(new KeptVersion(State.InitialSha256!));
            if (State.BestSha256 is { } best)
                unused.Add(new KeptVersion(best));
        }
        // Two steps can have equal bits, and so one file.
        string[] names = [.. Names(kept)];
        await files.DeleteAsync(Names(unused), names);
        if (!running && files.IsHeld)
            _ = DeleteLaterAsync(names);
    }

    /// <summary>The trial is over and told; what it leaves goes when nobody saves the folder any more. A silo that ends before that leaves it there.</summary>
    private async Task DeleteLaterAsync(string[] kept)
    {
        try
        {
            while (files.IsHeld)
                await Task.Delay(Held, time, stopping);
            await files.DeleteAsync([], kept);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or UnauthorizedAccessException)
        {
            // Files that no state names cost room and nothing else.
        }
    }

    private static IEnumerable<string> Names(IEnumerable<KeptVersion> versions) =>
        versions.SelectMany(version => new[] { version.Parameters, version.Optimizer }).OfType<string>();

    /// <summary>A version on the disk, or on its way there.</summary>
    private sealed class KeptVersion(string parameters)
    {
        public string Parameters => parameters;

        public string? Optimizer { get; set; }
    }
}
