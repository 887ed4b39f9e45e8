namespace AdjointDpm.Grains.Experiments;

/// <summary>What is kept of an experiment beside its journal: a few lines, however many trials.</summary>
internal sealed class ExperimentState
{
    public ExperimentSubmission? Submission { get; set; }

    /// <summary>Project of the user who submitted it; null in a cluster without users.</summary>
    public string? Project { get; set; }

    public RunState State { get; set; }

    public string? Reason { get; set; }

    /// <summary>Activations so far; names the journal's files.</summary>
    public long Epoch { get; set; }

    public bool CancelRequested { get; set; }

    /// <summary>Why no other trial begins: the target is reached or a budget is spent; null while neither.</summary>
    public string? Limit { get; set; }

    public bool Paused { get; set; }

    /// <summary>Trials that were paused alone.</summary>
    public HashSet<int> PausedTrials { get; set; } = [];

    /// <summary>Trials that were cancelled alone.</summary>
    public HashSet<int> CancelledTrials { get; set; } = [];

    public DateTimeOffset SubmittedAt { get; set; }

    /// <summary>Span of the submission, as W3C writes it; null when nobody traced it.</summary>
    public string? Trace { get; set; }

    public DateTimeOffset? EndedAt { get; set; }
}
