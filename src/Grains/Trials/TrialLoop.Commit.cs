using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Grains.Trials;

// What is written down, committed and kept.
internal sealed partial class TrialLoop
{
    /// <summary>Writes down how the next commit came about.</summary>
    private async Task RecordAsync(LedgerRecord record)
    {
        record = record.Sealed();
        await files.AppendAsync(record);
        State.LedgerSha256 = record.Sha256;
    }

    private async Task CommitAsync()
    {
        using (Traces.Start("commit"))
            await store.CommitAsync();
        marks.Clear(IsOver);
        _committedAt = time.GetTimestamp();
        Show();
    }

    /// <summary>What is committed, for whoever watches the metrics.</summary>
    private void Show() => live.Show(new LiveTrialValues(new Dictionary<string, double>(State.Metrics), State.Step, _spec.Training.Steps, State.Epoch, _spec.Optimizer.LearningRate, time.GetUtcNow()));

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
        var unused = new List<(string Parameters, string? Optimizer)>();
        var most = _spec.Checkpoint.KeepSteps ?? 0;
        if (running)
            most = Math.Max(most, EncodedGradient.Since(_spec.Training, State.Step));
        while (_kept.Count > most + 1)
            unused.Add(_kept.Dequeue());
        var kept = running ? _kept.ToList() : [.. _kept.SkipLast(1)];
        if (running && State.InitialSha256 is { } initial)
        {
            kept.Add((initial, null));
            if (State.BestSha256 is { } best)
                kept.Add((best, null));
        }
        else if (!running)
        {
            if (State.Assignment!.KeepLast)
                kept.AddRange(_kept.TakeLast(1));
            else
                unused.AddRange(_kept.TakeLast(1));
            unused.Add((State.InitialSha256!, null));
            if (State.BestSha256 is { } best)
                unused.Add((best, null));
        }
        // Two steps can have equal bits, and so one file.
        await files.DeleteAsync(Names(unused), [.. Names(kept)]);
    }

    private static IEnumerable<string> Names(IEnumerable<(string Parameters, string? Optimizer)> versions) =>
        versions.SelectMany(version => new[] { version.Parameters, version.Optimizer }).OfType<string>();
}
