using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class EncodedGradientTests
{
    private const int Numbers = 4096;

    private static TrainingSpec Training(GradientEncoding encoding, int steps = 1000) => new() { GradientEncoding = encoding, Steps = steps };

    /// <summary>What was sent and what is left add up to what was computed, at every step; after a full gradient nothing is left.</summary>
    [Theory]
    [InlineData(GradientEncoding.Bf16), InlineData(GradientEncoding.Fp16)]
    public void SentPlusResidual_IsTheSumOfTheGradients(GradientEncoding encoding)
    {
        var (training, random) = (Training(encoding), new Random(1));
        var (computed, sent, rounded) = (new double[Numbers], new double[Numbers], new double[Numbers]);
        byte[]? residual = null;
        for (var step = 0; step < 3 * EncodedGradient.Window; step++)
        {
            var gradient = Enumerable.Range(0, Numbers).Select(i => (float)((random.NextDouble() - 0.4) * Math.Pow(10, random.Next(-3, 2)))).ToArray();
            (var bytes, residual) = EncodedGradient.Encode(training, step, TrialFiles.Bytes(gradient), residual);
            var full = (step + 1) % EncodedGradient.Window == 0;
            Assert.Equal(Numbers * (full ? 4 : 2), bytes.Length);
            Assert.Equal(full, residual is null);
            var received = EncodedGradient.Floats(training, step, bytes);
            var left = residual is null ? new float[Numbers] : TrialFiles.Floats(residual);
            for (var i = 0; i < Numbers; i++)
            {
                (computed[i], sent[i]) = (computed[i] + gradient[i], sent[i] + received[i]);
                // Adding the residual to the gradient rounds once in fp32; what is split off is exact.
                rounded[i] += Math.Abs(gradient[i] + (double)left[i]) * 1.2e-7 + 1e-6 * Math.Abs(gradient[i]);
                Assert.InRange(sent[i] + left[i], computed[i] - rounded[i], computed[i] + rounded[i]);
            }
        }
        Assert.Null(residual);
    }

    [Fact]
    public void WithoutFeedback_MoreWouldBeLost()
    {
        // A gradient of one third, eight times: rounded to bf16 each time it is off by 8 roundings, with feedback by none.
        var training = Training(GradientEncoding.Bf16);
        var (sum, alone) = (0.0, 0.0);
        byte[]? residual = null;
        for (var step = 0; step < EncodedGradient.Window; step++)
        {
            alone += EncodedGradient.Floats(training, 0, EncodedGradient.Encode(training, 0, TrialFiles.Bytes([1f / 3]), null).Sent)[0];
            (var sent, residual) = EncodedGradient.Encode(training, step, TrialFiles.Bytes([1f / 3]), residual);
            sum += EncodedGradient.Floats(training, step, sent)[0];
        }
        Assert.InRange(Math.Abs(sum - 8.0 / 3), 0, 1e-6);
        Assert.InRange(Math.Abs(alone - 8.0 / 3), 1e-3, 1e-1);
    }

    [Fact]
    public void Bf16_RoundsToNearest_TiesToEven()
    {
        float[] numbers = [1f, 1.00390625f, 1.01171875f, 1.0039064f, -1.00390625f, 3.3895314e38f, 1e-40f, float.NaN, float.NegativeInfinity];
        float[] expected = [1f, 1f, 1.015625f, 1.0078125f, -1f, 3.3895314e38f, BitConverter.UInt32BitsToSingle(0x00010000), float.NaN, float.NegativeInfinity];
        var (sent, _) = EncodedGradient.Encode(Training(GradientEncoding.Bf16), 0, TrialFiles.Bytes(numbers), null);
        Assert.Equal(expected, EncodedGradient.Floats(Training(GradientEncoding.Bf16), 0, sent));
    }

    [Fact]
    public void Fp16_BeyondItsRange_SaysToUseBf16()
    {
        var training = Training(GradientEncoding.Fp16);
        Assert.Equal([65504f], EncodedGradient.Floats(training, 0, EncodedGradient.Encode(training, 0, TrialFiles.Bytes([65519f]), null).Sent));
        var thrown = Assert.Throws<ArithmeticException>(() => EncodedGradient.Encode(training, 0, TrialFiles.Bytes([1f, -65520f]), null));
        Assert.Contains("Set training.gradientEncoding: bf16", thrown.Message, StringComparison.Ordinal);
        Assert.True(Grains.Workers.WorkFailures.Of(thrown).Permanent);
        // A gradient that is infinite itself is another matter, which the norm tells.
        Assert.Equal([float.PositiveInfinity], EncodedGradient.Floats(training, 0, EncodedGradient.Encode(training, 0, TrialFiles.Bytes([float.PositiveInfinity]), null).Sent));
    }

    [Fact]
    public void LastStep_AndRunsWithoutEncoding_SendInFull()
    {
        var gradient = TrialFiles.Bytes([1f / 3]);
        var (sent, left) = EncodedGradient.Encode(Training(GradientEncoding.Bf16, steps: 3), 2, gradient, TrialFiles.Bytes([1e-3f]));
        Assert.Equal([1f / 3 + 1e-3f], TrialFiles.Floats(sent));
        Assert.Null(left);
        Assert.Same(gradient, EncodedGradient.Encode(Training(GradientEncoding.None), 0, gradient, null).Sent);
    }

    [Theory]
    [InlineData(GradientEncoding.None), InlineData(GradientEncoding.Bf16), InlineData(GradientEncoding.Fp16)]
    public async Task Receive_DecodesInPlace(GradientEncoding encoding)
    {
        var (training, random) = (Training(encoding), new Random(2));
        var (sent, _) = EncodedGradient.Encode(training, 0, TrialFiles.Bytes([.. Enumerable.Range(0, 1001).Select(_ => random.NextSingle())]), null);
        var into = new float[1001];
        await EncodedGradient.ReceiveAsync(training, 0, into, bytes =>
        {
            sent.CopyTo(bytes);
            return Task.CompletedTask;
        });
        Assert.Equal(EncodedGradient.Floats(training, 0, sent), into);
    }
}
