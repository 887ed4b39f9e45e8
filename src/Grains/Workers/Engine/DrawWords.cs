namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Counter words of what is drawn beside a sampler's own noise, in place of its step's: no sampler takes so many steps, and no two draws share one.</summary>
internal static class DrawWords
{
    /// <summary>Places in the box that starts of one noise begin at.</summary>
    public const ushort Starts = ushort.MaxValue;

    /// <summary>Which steps an estimator differentiates.</summary>
    public const ushort Truncation = ushort.MaxValue - 1;

    /// <summary>What an attack is held against.</summary>
    public const ushort Chance = ushort.MaxValue - 2;
}
