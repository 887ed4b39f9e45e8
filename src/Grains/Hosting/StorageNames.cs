namespace AdjointDpm.Grains.Hosting;

/// <summary>Names of grain storage providers.</summary>
internal static class StorageNames
{
    /// <summary>Durable state of experiments and trials.</summary>
    public const string State = "state";
}
