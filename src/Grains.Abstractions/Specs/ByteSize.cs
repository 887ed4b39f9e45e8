using System.Globalization;

namespace AdjointDpm.Grains.Specs;

/// <summary>Sizes of memory as people write them.</summary>
public static class ByteSize
{
    /// <summary>Bytes of a text such as <c>8GB</c>, <c>512 MiB</c> or <c>1000</c>; null when it is none.</summary>
    /// <param name="text">The text: a number, then K, M, G or T, by thousands, or by 1024 with an i behind; a B at the end or not.</param>
    public static long? Read(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var digits = text.Trim().TrimEnd('B', 'b').TrimEnd('i');
        var power = digits.Length == 0 ? -1 : char.ToUpperInvariant(digits[^1]) switch { 'K' => 1, 'M' => 2, 'G' => 3, 'T' => 4, _ => 0 };
        var number = (power > 0 ? digits[..^1] : digits).TrimEnd();
        return power >= 0 && double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) && value > 0 ? (long)(value * Math.Pow(text.Contains('i', StringComparison.Ordinal) ? 1024 : 1000, power)) : null;
    }
}
