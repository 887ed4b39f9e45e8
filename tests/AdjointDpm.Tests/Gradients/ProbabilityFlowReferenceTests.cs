using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Both adjoints of a real UNet against torchdiffeq's, in float64.</summary>
public sealed class ProbabilityFlowReferenceTests
{
    [Theory]
    [InlineData("euler.logsnr.10", "euler", GridKind.LogSnr, 10)]
    [InlineData("midpoint.logsnr.8", "midpoint", GridKind.LogSnr, 8)]
    [InlineData("rk4.time.6", "rk4-38", GridKind.Time, 6)]
    public void Differentiate_UnetWithGuidance_AgreesWithTorchdiffeq(string name, string sampler, GridKind kind, int steps)
    {
        using var scope = NewDisposeScope();
        using var unet = Reference.Unet(ScalarType.Float64);
        using var io = SafetensorsFile.Open(Path.Combine(ReferenceFolder.Of("pf_ode"), "io.safetensors"));
        Tensor conditioning = io.Read("encoder_hidden_states"), negative = io.Read("negative_hidden_states"), cotangent = io.Read("cotangent");
        var request = new SampleRequest
        {
            Field = NoiseField.GuidedBatched((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float64), cat([negative, conditioning], 0)), 2)
                .With("encoder_hidden_states", conditioning).With("unet", unet),
            Noise = io.Read("x_T"),
            Grid = TimeGrid.Create(kind, DiscreteVp.StableDiffusion, steps),
            Sampler = Sampler.Named(sampler),
        };
        Check("direct", GradientMethod.Discrete, 1e-6);
        Check("adjoint", GradientMethod.Continuous(), 1e-5);

        void Check(string which, GradientMethod method, double tolerance)
        {
            using var result = Sampling.Differentiate(request, x0 => x0.mul(cotangent).sum(), method, TestContext.Current.CancellationToken);
            Close("x_0", result.Sample);
            Close("grad.x_T", result.Noise);
            foreach (var key in io.Names.Where(n => n.StartsWith($"{name}.{which}.grad.", StringComparison.Ordinal)).Select(n => n.Split(".grad.")[1]))
            {
                if (key != "x_T")
                    Close("grad." + key, result.Inputs.TryGetValue(key, out var input) ? input : result.Inputs["unet." + key]);
            }

            void Close(string key, Tensor actual)
            {
                var error = TestScalars.RelativeError(actual, io.Read($"{name}.{which}.{key}"));
                Assert.True(error < tolerance, $"{name}.{which}.{key}: relative error {error:e2}");
            }
        }
    }
}
