namespace AdjointDpm.Grains.Trials;

/// <summary>What is asked of a trial while it runs; heeded after the step in hand.</summary>
internal sealed class TrialWishes
{
    public bool Cancelled { get; set; }

    public bool Paused { get; set; }

    /// <summary>Step after which it is to rest; null: nothing new.</summary>
    public int? Until { get; set; }

    /// <summary>Why it is to end early; null: it is not.</summary>
    public string? StopReason { get; set; }
}
