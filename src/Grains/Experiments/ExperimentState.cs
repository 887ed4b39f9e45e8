namespace AdjointDpm.Grains.Experiments;

/// <summary>What is kept of an experiment beside its journal: a few lines, however many trials.</summary>
internal sealed class ExperimentState
{
    public ExperimentSubmission? Submission { get; set; }

    public RunState State { get; set; }

    public string? Reason { get; set; }

    /// <summary>Activations so far; names the journal's files.</summary>
    public long Epoch { get; set; }

    public bool CancelRequested { get; set; }

    public DateTimeOffset SubmittedAt { get; set; }

    public DateTimeOffset? EndedAt { get; set; }
}
