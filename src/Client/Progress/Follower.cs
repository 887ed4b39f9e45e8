using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>Follows an experiment to its end, through lost connections.</summary>
internal sealed class Follower(IClusterConnection cluster, IProgressReport report, TimeProvider time)
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(3);

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    /// <summary>How long a cluster may be away before we give up.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <returns>The state at the end.</returns>
    /// <exception cref="ClusterUnreachableException">The cluster was away too long.</exception>
    public async Task<ExperimentSnapshot> ToEndAsync(string id, long afterSequence, CancellationToken cancellationToken)
    {
        using var done = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var looking = report.ShowsState ? LookNowAndThenAsync(id, done.Token) : Task.CompletedTask;
        try
        {
            return await FollowAsync(id, afterSequence, cancellationToken);
        }
        finally
        {
            await done.CancelAsync();
            await looking;
        }
    }

    private async Task LookNowAndThenAsync(string id, CancellationToken cancellationToken)
    {
        try
        {
            while (true)
            {
                await Task.Delay(Look, time, cancellationToken);
                try
                {
                    await SnapshotAsync(id, cancellationToken);
                }
                catch (ClusterUnreachableException)
                {
                    // the one that follows the events tells of it
                }
            }
        }
        catch (OperationCanceledException)
        {
            // done
        }
    }

    private async Task<ExperimentSnapshot> FollowAsync(string id, long afterSequence, CancellationToken cancellationToken)
    {
        var lastAnswer = time.GetTimestamp();
        var away = false;
        while (true)
        {
            try
            {
                var snapshot = await SnapshotAsync(id, cancellationToken);
                Answered();
                // What had ended before we watched has no more events than those that the stream replays.
                var ended = Words.Ended(snapshot.Summary.State);
                if (ended && snapshot.Sequence <= afterSequence) return snapshot;
                await foreach (var happened in cluster.WatchAsync(id, afterSequence, cancellationToken).WithCancellation(cancellationToken))
                {
                    Answered();
                    afterSequence = happened.Sequence;
                    report.Happened(happened);
                    if (happened.Kind is EventKind.StepCommitted or EventKind.ShardReissued) continue;
                    snapshot = await SnapshotAsync(id, cancellationToken);
                    // It may have gone on since, when trials were tried again or added.
                    if (happened.Kind == EventKind.ExperimentEnded && (Words.Ended(snapshot.Summary.State) || snapshot.Sequence <= happened.Sequence)) return snapshot;
                }

                if (ended) return snapshot;
            }
            catch (ClusterUnreachableException e)
            {
                if (time.GetElapsedTime(lastAnswer) > Patience) throw;
                if (!away) report.Notice($"{e.Message} Trying again.");
                away = true;
            }

            await Task.Delay(Pause, time, cancellationToken);
        }

        void Answered()
        {
            if (away) report.Notice("The cluster answers again.");
            (away, lastAnswer) = (false, time.GetTimestamp());
        }
    }

    private async Task<ExperimentSnapshot> SnapshotAsync(string id, CancellationToken cancellationToken)
    {
        var snapshot = await cluster.GetSnapshotAsync(id, cancellationToken)
            ?? throw new ClusterUnreachableException($"The cluster does not know '{id}' any more.");
        report.Refresh(snapshot);
        return snapshot;
    }
}
