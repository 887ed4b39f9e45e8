using System.Globalization;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>The whole table of the quantile-preserving mixture: errors of value, d/dx1 and d/dmu2 that were computed independently by complex-step differentiation.</summary>
public sealed class MixtureTableTests
{
    private const string Table = """
        ddim     32 1.15e-2 2.60e-2 9.31e-4
        ddim     64 5.54e-3 1.50e-2 4.62e-4
        ddim    128 2.72e-3 7.96e-3 2.29e-4
        ddim    256 1.35e-3 4.10e-3 1.14e-4
        ddim    512 6.73e-4 2.08e-3 5.68e-5
        ddim   1024 3.36e-4 1.05e-3 2.84e-5
        ddim   2048 1.68e-4 5.26e-4 1.42e-5
        heun     32 2.35e-3 7.31e-3 3.22e-4
        heun     64 5.05e-4 1.93e-3 7.98e-5
        heun    128 1.17e-4 4.90e-4 1.96e-5
        heun    256 2.83e-5 1.23e-4 4.84e-6
        heun    512 6.96e-6 3.09e-5 1.20e-6
        heun   1024 1.73e-6 7.72e-6 2.99e-7
        heun   2048 4.30e-7 1.93e-6 7.47e-8
        dpm2     32 1.56e-3 4.36e-3 2.01e-4
        dpm2     64 3.47e-4 1.13e-3 4.82e-5
        dpm2    128 8.22e-5 2.84e-4 1.18e-5
        dpm2    256 2.00e-5 7.11e-5 2.93e-6
        dpm2    512 4.93e-6 1.78e-5 7.29e-7
        dpm2   1024 1.23e-6 4.44e-6 1.82e-7
        dpm2   2048 3.05e-7 1.11e-6 4.54e-8
        dpm++2m  32 3.85e-3 5.33e-3 4.10e-4
        dpm++2m  64 7.70e-4 1.78e-3 9.16e-5
        dpm++2m 128 1.75e-4 4.69e-4 2.18e-5
        dpm++2m 256 4.17e-5 1.19e-4 5.31e-6
        dpm++2m 512 1.02e-5 2.99e-5 1.31e-6
        dpm++2m 1024 2.53e-6 7.48e-6 3.26e-7
        dpm++2m 2048 6.28e-7 1.87e-6 8.13e-8
        """;

    public static TheoryData<string, int, double, double, double> Rows() => [.. Table.Split('\n', StringSplitOptions.TrimEntries).Select(row =>
    {
        var cells = row.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return (cells[0], int.Parse(cells[1], CultureInfo.InvariantCulture), Number(cells[2]), Number(cells[3]), Number(cells[4]));
    })];

    [Theory]
    [MemberData(nameof(Rows))]
    public void Differentiate_KarrasGrid_HasTheErrorsOfTheTable(string sampler, int steps, double value, double ofNoise, double ofMean)
    {
        // More steps only take longer: the methods are shown to agree elsewhere too.
        GradientMethod[] methods = [GradientMethod.Discrete, .. steps > 256 ? [] : (GradientMethod[])[GradientMethod.StoreAll], .. steps > 64 ? [] : (GradientMethod[])[GradientMethod.Checkpointed(5)]];
        foreach (var method in methods)
        {
            using var scope = NewDisposeScope();
            var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
            using var result = Sampling.Differentiate(ClosedFormTests.MixtureRequest(Sampler.Named(sampler), steps, means), x => x.sum(), method, TestContext.Current.CancellationToken);
            ThreeDigits(value, Math.Abs(result.Sample.Number() - ClosedFormTests.MixtureSample));
            ThreeDigits(ofNoise, Math.Abs((result.Noise.Number() / 0.00362775451874) - 1));
            ThreeDigits(ofMean, Math.Abs((result.Inputs["means"][1].Number() / 0.997456766532) - 1));
        }
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    private static void ThreeDigits(double expected, double actual)
        => Assert.True(Math.Abs(actual - expected) <= 0.0051 * expected, $"expected {expected:e2}, got {actual:e3}");
}
