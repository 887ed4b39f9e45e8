namespace AdjointDpm.Formats;

/// <summary>The two formats of eight bits in which large models are spread: E4M3 (no infinities) and E5M2 (a float16 cut to its first byte).</summary>
/// <remarks>Micikevicius et al. (2022), "FP8 formats for deep learning". Every number of either is a float16.</remarks>
internal static class Float8
{
    public const string E4M3 = "F8_E4M3", E5M2 = "F8_E5M2";

    private static readonly Half[] Narrow = [.. Enumerable.Range(0, 256).Select(FromE4M3)];

    public static bool Is(string dtype) => dtype is E4M3 or E5M2;

    /// <summary>Widens numbers.</summary>
    /// <param name="dtype">Which of the two.</param>
    /// <param name="from">The file's bytes.</param>
    /// <param name="to">As many numbers.</param>
    public static void Widen(string dtype, ReadOnlySpan<byte> from, Span<Half> to)
    {
        for (var i = 0; i < from.Length; i++)
            to[i] = dtype == E4M3 ? Narrow[from[i]] : BitConverter.UInt16BitsToHalf((ushort)(from[i] << 8));
    }

    private static Half FromE4M3(int code)
    {
        var (exponent, fraction) = ((code >> 3) & 15, code & 7);
        var size = (exponent, fraction) switch
        {
            (15, 7) => double.NaN,
            (0, _) => Math.ScaleB(fraction / 8.0, -6),
            _ => Math.ScaleB(1 + (fraction / 8.0), exponent - 7),
        };
        return (Half)((code & 128) == 0 ? size : -size);
    }
}
