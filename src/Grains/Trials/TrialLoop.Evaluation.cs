using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

// Evaluations before, on the way and after, and what they decide.
internal sealed partial class TrialLoop
{
    private async Task EvaluateAsync(WorkKind kind, string when, TrialPhase next)
    {
        using var span = Traces.Start("evaluate");
        Note(await EvaluateAsync(kind, kind == WorkKind.EvaluateAfter ? await FinalAsync() : _trained!.Reference), when);
        if (kind == WorkKind.EvaluateBefore && _spec.HeldOut?.Every is not null)
            (State.BestSha256, State.BestLoss) = (State.ParametersSha256, State.Metrics[$"heldOut.{HeldOutMetrics.Kept(_spec.HeldOut)}.before"]);
        State.Phase = next;
        await CommitLaterAsync();
    }

    private void Note(WorkResult[] parts, string when)
    {
        var means = StepUpdate.Means(parts).ToList();
        if (_spec.HeldOut is not null)
            _profiles.HeldOut(State.Step, means);
        foreach (var (name, mean) in means)
        {
            // On fixed noise that training never sees: "loss.before", and under the judge's name when there is one.
            if (_spec.HeldOut is not null)
                State.Metrics[$"heldOut.{name}.{when}"] = mean;
            if (!HeldOutMetrics.IsOnlyHeldOut(name))
                State.Metrics[$"{name}.{when}"] = mean;
        }
        AttackRates.Add(State.Metrics, when, FixedSamples.Total(_spec) / FixedSamples.Restarts(_spec));
    }

    /// <summary>Whether samples are to be drawn before going on, for people to look at.</summary>
    private bool IsPictureDue() => _spec.Checkpoint.Pictures is { } every && _spec.Train.Target != TrainTarget.None
        && (State.PicturedStep is null || State.Step > State.PicturedStep) && (State.Step % every == 0 || State.Step == _spec.Training.Steps);

    private async Task DrawAsync()
    {
        byte[]? png = null;
        await dispatch.RunAsync(Round(WorkKind.Draw, 1, token => Assignment(token), (_, _, bytes) => png = bytes), stopping);
        await files.WritePictureAsync(State.Step, png!);
        State.PicturedStep = State.Step;
        // Drawn again it is the same picture: no need for a commit of its own.
    }

    /// <summary>Whether early stopping wants to know how good it is before it goes on.</summary>
    private bool IsAtLook() => State.Until is { } until && State.Step >= until && State.Step < _spec.Training.Steps && !State.Looks.ContainsKey(State.Step);

    /// <summary>It was looked at, and nobody has said yet that it may go on.</summary>
    private bool Rests() => State.Phase == TrialPhase.Training && State.Step < _spec.Training.Steps && State.Looks.ContainsKey(State.Step) && State.Step >= State.Until;

    /// <summary>Measures what is measured after the last step, now.</summary>
    private async Task LookAsync()
    {
        Note(await EvaluateAsync(WorkKind.Guard, _trained!.Reference), "after");
        State.Looks[State.Step] = State.Metrics.GetValueOrDefault(_spec.Objective.Metric, double.NaN);
        await CommitAsync();
    }

    private async Task<WorkResult[]> EvaluateAsync(WorkKind kind, TensorReference parameters)
    {
        var samples = FixedSamples.Evaluated(_spec);
        var chunk = _spec.Training.SamplesPerShard;
        var parts = new WorkResult[(samples + chunk - 1) / chunk];
        await dispatch.RunAsync(
            Round(kind, parts.Length,
                token => Assignment(token) with { Parameters = parameters, FirstSample = token.Shard * chunk, Samples = Math.Min(chunk, samples - token.Shard * chunk) },
                (shard, result, _) => parts[shard] = result),
            stopping);
        Count(parts, isTraining: false);
        return parts;
    }

    /// <summary>Whether the held-out loss is to be looked at before going on; at the end it always is.</summary>
    private bool IsLookDue() => _spec.HeldOut?.Every is { } every && State.Step > State.GuardedStep && (State.Step % every == 0 || State.Step == _spec.Training.Steps);

    /// <summary>Keeps the version with the best held-out metric, and ends training when there was no better one for long.</summary>
    private async Task GuardAsync()
    {
        var parts = await EvaluateAsync(WorkKind.Guard, _trained!.Reference);
        var means = StepUpdate.Means(parts).ToList();
        _profiles.HeldOut(State.Step, means);
        await _profiles.WriteAsync(now: true);
        var kept = HeldOutMetrics.Kept(_spec.HeldOut!);
        var value = means.First(mean => mean.Key == kept).Value;
        string? unused = null;
        if (HeldOutMetrics.IsBetter(_spec.HeldOut!, value, State.BestLoss))
        {
            unused = State.BestSha256;
            (State.BestSha256, State.BestLoss, State.LooksSinceBest) = (State.ParametersSha256, value, 0);
            State.Metrics["heldOut.bestStep"] = State.Step;
        }
        else
        {
            State.LooksSinceBest++;
        }
        State.GuardedStep = State.Step;
        State.Metrics["heldOut.loss"] = means.First(mean => mean.Key == "loss").Value;
        State.Metrics[$"heldOut.{kept}"] = value;
        if (State.LooksSinceBest >= _spec.HeldOut?.Patience)
        {
            State.Metrics["heldOut.stoppedAtStep"] = State.Step;
            State.Phase = TrialPhase.EvaluatingAfter;
            var trial = ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index);
            LogStopped(logger, trial, State.Step, State.LooksSinceBest);
        }
        await CommitAsync();
        if (unused is not null)
            await files.DeleteAsync([unused], [.. Names(_kept), State.InitialSha256!, State.BestSha256!]);
    }

    /// <summary>The version that the trial ends with: the newest, or the best where that was looked for.</summary>
    private async Task<TensorReference> FinalAsync() => State.BestSha256 is { } best ? await _trained!.OfferAsync(best) : _trained!.Reference;
}
