using System.Security.Cryptography;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Bytes of tensors, named by their contents.</summary>
/// <param name="Sha256">SHA-256 of the bytes, lower-case hex.</param>
/// <param name="Length">Number of bytes.</param>
/// <param name="Location">Name of the silo that holds them.</param>
/// <param name="Inline">The bytes themselves when there are at most <see cref="InlineLimit"/>.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.TensorReference")]
internal sealed record TensorReference(
    [property: Id(0)] string Sha256,
    [property: Id(1)] long Length,
    [property: Id(2)] string Location,
    [property: Id(3)] byte[]? Inline = null)
{
    /// <summary>Up to here the bytes travel with the message that names them; a second call would cost more than it saves.</summary>
    public const int InlineLimit = 64 * 1024;

    /// <summary>Length of the pieces that <see cref="Pieces"/> names; the last may be shorter.</summary>
    [Id(4)] public int PieceBytes { get; init; }

    /// <summary>SHA-256 of each piece, for those who fetch one piece and not all; null when there is one piece only.</summary>
    [Id(5)] public IReadOnlyList<string>? Pieces { get; init; }

    /// <summary>Parts that lie on several silos and make up the bytes in this order; then <see cref="Location"/> is empty.</summary>
    [Id(6)] public IReadOnlyList<TensorReference>? Parts { get; init; }

    public static string HashOf(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));
}

/// <summary>Bytes did not arrive: the silo that held them is gone, has dropped them, or sent something else. Another attempt may succeed.</summary>
[GenerateSerializer, Alias("adjointdpm.TensorTransferException")]
internal sealed class TensorTransferException : Exception
{
    public TensorTransferException(string message) : base(message)
    {
    }

    public TensorTransferException(string message, Exception inner) : base(message, inner)
    {
    }
}
