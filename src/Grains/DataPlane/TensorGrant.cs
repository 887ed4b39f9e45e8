namespace AdjointDpm.Grains.DataPlane;

/// <summary>Leave to read one run of bytes, once and soon, over a connection beside the messages. Only a silo of the cluster can ask for one.</summary>
/// <param name="Address">Address to dial.</param>
/// <param name="Port">Port to dial.</param>
/// <param name="Token">Secret that the run of bytes is handed out for.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.TensorGrant")]
internal sealed record TensorGrant([property: Id(0)] string Address, [property: Id(1)] int Port, [property: Id(2)] byte[] Token)
{
    /// <summary>Length of <see cref="Token"/>.</summary>
    public const int TokenLength = 32;
}

/// <summary>What goes over a connection: the receiver writes <see cref="Hello"/> and its token; the sender answers <see cref="Wait"/> as often as it must, then <see cref="Send"/> and the bytes, or <see cref="Refuse"/>, or <see cref="Gone"/>. After the bytes it may show another token.</summary>
internal static class TensorStreamProtocol
{
    public const byte Send = 1;
    public const byte Wait = 2;
    public const byte Refuse = 3;
    public const byte Gone = 4;

    public static ReadOnlySpan<byte> Hello => "ADT1"u8;
}
