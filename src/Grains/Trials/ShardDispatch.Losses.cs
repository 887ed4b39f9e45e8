using System.Diagnostics;
using System.Globalization;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

// What was lost, to what, and what follows from it.
internal sealed partial class ShardDispatch
{
    /// <summary>A worker whose device stands still gets nothing for so long: its process has to be ended, or comes to itself.</summary>
    private static readonly TimeSpan StuckRest = TimeSpan.FromMinutes(1);

    /// <summary>A shard that so many processes ended in may ask for more memory than they have: nobody says so when the system ends them for it.</summary>
    private const int EndsForMemory = 2;

    private async Task ExpiredAsync(WorkRound round, ShardToken expired, Held? held)
    {
        instruments.LeaseExpired();
        LogExpired(logger, expired);
        if (await MayHaveRunAsync(round, expired, held?.Ran ?? true))
            Note(round, expired, held?.Worker, "its lease ran out");
    }

    /// <param name="round">Round.</param>
    /// <param name="held">The attempt.</param>
    /// <param name="reason">What is known.</param>
    /// <param name="counts">Whether the shard can be the cause; null when nothing was heard of it.</param>
    /// <param name="ended">Whether its process has.</param>
    private async Task LostAsync(WorkRound round, Held held, string reason, bool? counts, bool ended = false)
    {
        if (round.Check is { } check)
            await check();
        Lost(round, held, reason, counts ?? await MayHaveRunAsync(round, held.Token, held.Ran), ended);
    }

    private void Lost(WorkRound round, Held held, string reason, bool counts, bool ended = false)
    {
        var (worker, token) = (held.Worker, held.Token);
        Activity.Current.Fail(reason);
        instruments.ShardFailed(permanent: false);
        LogLost(logger, worker, token, reason);
        if (counts)
            Note(round, token, worker, reason, ended);
        round.Ledger.Release(token);
        var failures = _resting.TryGetValue(worker, out var rest) ? rest.Failures + 1 : 1;
        _resting[worker] = new Rest(failures, Now + ShardScheduling.RestAfter(failures));
    }

    /// <summary>Whether the device stands still of a worker that answers: then what it holds is given to others, and counts only when it comes all the same before theirs.</summary>
    private bool IsStuck(WorkRound round, Held held, WorkStatus status)
    {
        if (status.Still is not { } still || still < (round.Stuck ?? ShardScheduling.Stuck(round.Took, round.Ledger.Shards)))
            return held.IsStuck = false;
        if (held.IsStuck)
            return true;
        Lost(round, held, string.Create(CultureInfo.InvariantCulture, $"its device has made no progress for {still.TotalSeconds:f0} s"), counts: status.State == WorkState.Running);
        _resting[held.Worker] = _resting[held.Worker] with { Until = Now + StuckRest };
        return held.IsStuck = true;
    }

    /// <summary>Of an attempt that nothing more is heard of: may the worker have died of it? Not when it only waited there behind others.</summary>
    private async Task<bool> MayHaveRunAsync(WorkRound round, ShardToken token, bool ran)
    {
        try
        {
            // One that kills at once was never heard to run: its worker's slate is what is left of it.
            await round.Marks.ReadAsync();
        }
        catch (IOException e)
        {
            LogMarksNotRead(logger, round.Ledger.Trial, e.Message);
            return true;
        }
        return ran || round.Marks.Has(token);
    }

    /// <summary>A shard that was lost too often, also under coordinators before this one, is not given to another worker.</summary>
    /// <remarks>But when processes ended in it less memory is asked for first: a system that has too little ends them without a word.</remarks>
    private static async Task RequireAsync(WorkRound round, ShardToken token)
    {
        foreach (var mark in await round.Marks.LeftAsync(token))
        {
            var (attempt, known) = ((mark.Token.Epoch, mark.Token.Attempt), LossesOf(round, token.Shard));
            known[attempt] = (known.TryGetValue(attempt, out var lost) ? lost.What : $"{mark.Worker}: its silo ended in the middle of it", true);
        }
        if (!round.Losses.TryGetValue(token.Shard, out var losses) || losses.Count < round.MaxAttempts)
            return;
        var epoch = token.Epoch;
        var ends = losses.Values.Count(lost => lost.Ended);
        var evidence = string.Join(" ", losses.Select(lost => $"Attempt {lost.Key.Attempt}{(lost.Key.Epoch == epoch ? "" : $" of coordinator {lost.Key.Epoch}")}: {lost.Value.What}{(lost.Value.What.EndsWith('.') || lost.Value.What.EndsWith('…') ? "" : ".")}"));
        if (round.MayAskForLess && token.Kind == WorkKind.Gradient && ends >= Math.Min(EndsForMemory, round.MaxAttempts))
            throw new WorkerMemoryException($"{Place(token)} was lost {losses.Count} times. {evidence}", string.Create(CultureInfo.InvariantCulture, $"{ends} silos ended in the middle of shard {token.Shard}, perhaps for want of memory."));
        throw new WorkFailedException($"{Place(token)} was lost {losses.Count} times, and failure.maxShardAttempts allows no more. {evidence}");
    }

    private static SortedDictionary<(long Epoch, int Attempt), (string What, bool Ended)> LossesOf(WorkRound round, int shard) =>
        round.Losses.TryGetValue(shard, out var losses) ? losses : round.Losses[shard] = [];

    /// <summary>Keeps what a shard was lost to: the evidence when it is given up. An attempt is lost once, whatever is heard of it later.</summary>
    private static void Note(WorkRound round, in ShardToken token, string? worker, string reason, bool ended = false)
    {
        const int Longest = 300;
        LossesOf(round, token.Shard)[(token.Epoch, token.Attempt)] = ($"{worker ?? "a worker that is gone"}: {(reason.Length > Longest ? reason[..Longest] + "…" : reason)}", ended);
    }

    private static string Place(in ShardToken token) => token.Kind switch
    {
        WorkKind.Gradient => $"Step {token.Step + 1}, shard {token.Shard}",
        WorkKind.EvaluateBefore => $"Evaluation before training, part {token.Shard}",
        WorkKind.Guard => $"Evaluation after step {token.Step}, part {token.Shard}",
        WorkKind.EvaluateAfter => $"Evaluation after training, part {token.Shard}",
        WorkKind.Save => "Saving",
        WorkKind.Prove => "Proof of the gradient",
        WorkKind.Draw => $"Pictures after step {token.Step}",
        _ => "Loading the model",
    };
}
