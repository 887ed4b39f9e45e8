using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>Keeps what is observed of steps in a file beside the ledger. Written at most once a second and never waited for by power: a crash may take the last of it, and nothing depends on it.</summary>
internal sealed class StepProfiles(TrialFiles files, TimeProvider time)
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly List<StepProfile> _unwritten = [];
    private long _written = time.GetTimestamp();

    /// <summary>Notes a committed step.</summary>
    public void Step(int step, IReadOnlyList<WorkResult> shards, in StepSeconds seconds) => _unwritten.Add(new StepProfile
    {
        Step = step,
        AdjointNorms = Mean([.. shards.Select(shard => shard.Statistics.AdjointNorms)]),
        Times = new StepTimes(seconds.Shards, seconds.Reduce, seconds.Optimize, seconds.Commit),
        Shards = [.. shards.Select(shard => Of(shard.Statistics))],
        PeakBytes = shards.Max(shard => shard.Statistics.PeakLiveBytes),
    });

    /// <summary>Notes held-out means after a step.</summary>
    public void HeldOut(int step, IEnumerable<KeyValuePair<string, double>> means) => _unwritten.Add(new StepProfile { Step = step, HeldOut = new Dictionary<string, double>(means) });

    /// <summary>Writes what is new, unless that was done a moment ago.</summary>
    /// <param name="now">Whether a moment ago is long enough.</param>
    public async Task WriteAsync(bool now)
    {
        if (_unwritten.Count == 0 || (!now && time.GetElapsedTime(_written) < Pause))
            return;
        var lines = _unwritten.ToArray();
        _unwritten.Clear();
        _written = time.GetTimestamp();
        await files.AppendProfilesAsync(lines);
    }

    /// <summary>Norms of the gradient of a mean of losses of independent samples: their squares add up.</summary>
    public static double[]? Mean(IReadOnlyList<IReadOnlyList<double>?> norms)
    {
        if (norms.Count == 0 || norms.Any(norm => norm is null || norm.Count != norms[0]!.Count))
            return null;
        var squares = new double[norms[0]!.Count];
        foreach (var norm in norms)
            for (var n = 0; n < squares.Length; n++)
                squares[n] += norm![n] * norm[n];
        return [.. squares.Select(square => Math.Sqrt(square) / norms.Count)];
    }

    private static ShardProfile Of(WorkStatistics statistics) => new()
    {
        Worker = statistics.Worker,
        Fetch = statistics.FetchSeconds,
        Queue = statistics.QueueSeconds,
        Forward = statistics.ForwardSeconds,
        Loss = statistics.LossSeconds,
        Backward = statistics.BackwardSeconds,
        Total = statistics.TotalSeconds,
        PeakTensors = statistics.PeakLiveTensors,
        PeakBytes = statistics.PeakLiveBytes,
    };
}
