namespace AdjointDpm.Grains.Workers;

/// <summary>Something that a silo wrote into its log.</summary>
/// <param name="Silo">Which.</param>
/// <param name="Number">Counted from 1 since the silo began.</param>
/// <param name="Time">When (UTC).</param>
/// <param name="Level">info, warn, fail or crit.</param>
/// <param name="Text">Category and message, and the kind and message of an error.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.SiloMessage")]
public sealed record SiloMessage([property: Id(0)] string Silo, [property: Id(1)] long Number, [property: Id(2)] DateTimeOffset Time, [property: Id(3)] string Level, [property: Id(4)] string Text);
