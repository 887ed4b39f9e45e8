namespace AdjointDpm.Grains.Experiments;

/// <summary>A file of a trial's results.</summary>
/// <param name="Path">Relative to the trial's folder, with slashes.</param>
/// <param name="Length">Number of bytes.</param>
/// <param name="Sha256">SHA-256 in lower-case hex.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ResultFile")]
public sealed record ResultFile([property: Id(0)] string Path, [property: Id(1)] long Length, [property: Id(2)] string Sha256);

/// <summary>A part of a file.</summary>
/// <param name="Bytes">From the offset that was asked for: at most <see cref="MostBytes"/>, and less only at the end.</param>
/// <param name="Length">Number of bytes of the whole file.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ResultPart")]
public sealed record ResultPart([property: Id(0)] byte[] Bytes, [property: Id(1)] long Length)
{
    /// <summary>Bytes of one part: a message that holds up no other.</summary>
    public const int MostBytes = 1 << 20;
}
