namespace AdjointDpm.Losses;

/// <summary>What an audit of a classifier looks for.</summary>
public enum AuditGoal
{
    /// <summary>Samples that the classifier takes for the given class.</summary>
    Targeted,

    /// <summary>Samples that the classifier takes for anything but the given class.</summary>
    Untargeted,
}
