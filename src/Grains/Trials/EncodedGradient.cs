using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Trials;

/// <summary>A shard's gradient as it travels: in full, or in half the bytes with the rounding error fed back into the shard's next one.</summary>
/// <remarks>
/// What is sent of shard s at step t is Q(gₜ + eₜ), and eₜ₊₁ = gₜ + eₜ − Q(gₜ + eₜ), which is exact in fp32. Every <see cref="Window"/>th step and the last one
/// are sent in full, so that e begins at zero again and nothing is lost: a residual is a function of the parameters of fewer steps than that, which are kept, and so never
/// has to be stored. All of it belongs to the logical shard: who computed the step before does not show.
/// </remarks>
internal static class EncodedGradient
{
    /// <summary>Steps from one full gradient to the next.</summary>
    public const int Window = 8;

    /// <summary>Steps that were taken in the window before this one; their parameters make the residuals.</summary>
    /// <param name="training">Run.</param>
    /// <param name="step">Steps committed before.</param>
    public static int Since(TrainingSpec training, int step) => Of(training) == GradientEncoding.None ? 0 : step % Window;

    /// <summary>Whether a step's gradient is sent in full.</summary>
    public static bool IsFull(TrainingSpec training, int step) => Of(training) == GradientEncoding.None || (step + 1) % Window == 0 || step + 1 == training.Steps;

    public static int BytesPerNumber(TrainingSpec training, int step) => IsFull(training, step) ? sizeof(float) : sizeof(ushort);

    /// <summary>What is sent and what is left for the next step; null when nothing is.</summary>
    /// <param name="training">Run.</param>
    /// <param name="step">Steps committed before.</param>
    /// <param name="gradient">fp32; handed over: its memory becomes that of the result, since memory that is new costs more than the encoding.</param>
    /// <param name="residual">fp32, left by the step before; empty for zeros.</param>
    /// <exception cref="ArithmeticException">A number is beyond what fp16 can hold.</exception>
    public static (byte[] Sent, byte[]? Residual) Encode(TrainingSpec training, int step, byte[] gradient, ReadOnlySpan<byte> residual)
    {
        if (Of(training) == GradientEncoding.None)
            return (gradient, null);
        var numbers = MemoryMarshal.Cast<byte, float>(gradient.AsSpan());
        var before = MemoryMarshal.Cast<byte, float>(residual);
        if (before.Length != 0 && before.Length != numbers.Length)
            throw new ArgumentException($"The residual has {before.Length} numbers and the gradient {numbers.Length}.", nameof(residual));
        for (var i = 0; i < before.Length; i++)
            numbers[i] += before[i];
        if (IsFull(training, step))
            return (gradient, null);
        var sent = GC.AllocateUninitializedArray<byte>(numbers.Length * sizeof(ushort));
        var halves = MemoryMarshal.Cast<byte, ushort>(sent.AsSpan());
        if (Of(training) == GradientEncoding.Bf16)
            for (var i = 0; i < numbers.Length; i++)
            {
                halves[i] = ToBf16(numbers[i]);
                numbers[i] -= FromBf16(halves[i]);
            }
        else
            for (var i = 0; i < numbers.Length; i++)
            {
                var half = (Half)numbers[i];
                if (Half.IsInfinity(half) && float.IsFinite(numbers[i]))
                    throw new ArithmeticException(FormattableString.Invariant($"Number {i} of the gradient is {numbers[i]:g4}, and fp16 ends at 65504. Set training.gradientEncoding: bf16, which has the range of fp32."));
                halves[i] = BitConverter.HalfToUInt16Bits(half);
                numbers[i] -= (float)half;
            }
        return (sent, gradient);
    }

    /// <summary>Receives into a buffer and decodes there: no other memory is needed.</summary>
    /// <param name="training">Run.</param>
    /// <param name="step">Steps committed before.</param>
    /// <param name="into">As long as the gradient.</param>
    /// <param name="receive">Brings the bytes as they were sent.</param>
    public static async Task ReceiveAsync(TrainingSpec training, int step, float[] into, Func<Memory<byte>, Task> receive)
    {
        var bytes = new FloatBytes(into).Memory;
        await receive(bytes[^(into.Length * BytesPerNumber(training, step))..]);
        if (!IsFull(training, step))
            Decode(Of(training), MemoryMarshal.Cast<byte, ushort>(bytes.Span)[^into.Length..], into);
    }

    /// <summary>What was sent, as numbers.</summary>
    public static float[] Floats(TrainingSpec training, int step, byte[] sent)
    {
        if (IsFull(training, step))
            return TrialFiles.Floats(sent);
        var numbers = new float[sent.Length / sizeof(ushort)];
        Decode(Of(training), MemoryMarshal.Cast<byte, ushort>(sent.AsSpan()), numbers);
        return numbers;
    }

    // From front to back: when the halves lie in the second half of the very numbers, none is written over before it is read.
    private static GradientEncoding Of(TrainingSpec training) => training.GradientEncoding ?? GradientEncoding.None;

    private static void Decode(GradientEncoding encoding, ReadOnlySpan<ushort> halves, Span<float> numbers)
    {
        if (encoding == GradientEncoding.Bf16)
            for (var i = 0; i < numbers.Length; i++)
                numbers[i] = FromBf16(halves[i]);
        else
            for (var i = 0; i < numbers.Length; i++)
                numbers[i] = (float)BitConverter.UInt16BitsToHalf(halves[i]);
    }

    /// <summary>To the nearest, ties to even.</summary>
    private static ushort ToBf16(float number)
    {
        var bits = BitConverter.SingleToUInt32Bits(number);
        // A NaN must stay one, whatever its payload.
        return float.IsNaN(number) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    private static float FromBf16(ushort half) => BitConverter.UInt32BitsToSingle((uint)half << 16);
}
