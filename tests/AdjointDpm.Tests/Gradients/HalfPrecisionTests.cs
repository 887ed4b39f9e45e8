using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Networks in half precision: states and sums of gradients stay in float32, and the gradient points where the float32 one does.</summary>
public sealed class HalfPrecisionTests
{
    [Theory]
    [InlineData(ScalarType.BFloat16, 1.0)]
    [InlineData(ScalarType.Float16, 1.0)]
    // A loss whose cotangents float16 has no room for.
    [InlineData(ScalarType.Float16, 1e-9)]
    public void Gradient_OfTheReferenceNetwork_PointsWhereTheFloat32OneDoes(ScalarType dtype, double weight)
    {
        using var scope = NewDisposeScope();
        var exact = Gradients(ScalarType.Float32, 1);
        var half = Gradients(dtype, weight);
        Assert.Equal(exact.Keys, half.Keys);
        using var factor = weight.ToScalar();
        foreach (var (name, expected) in exact)
        {
            Assert.Equal(ScalarType.Float32, half[name].dtype);
            var (cosine, ratio) = (Cosine(expected, half[name]), half[name].norm().Number() / expected.norm().Number() / weight);
            TestContext.Current.SendDiagnosticMessage($"{dtype} {weight:g1} {name}: cosine {cosine:f6}, norm ratio {ratio:f4}");
            Assert.True(cosine >= 0.999, $"{name}: cosine {cosine:f6}");
            Assert.Equal(1, ratio, 0.02);
        }
    }

    private static OrderedDictionary<string, Tensor> Gradients(ScalarType dtype, double weight)
    {
        using var model = Reference.Unet(dtype);
        using var io = SafetensorsFile.Open(Path.Combine(ReferenceFolder.Of("unet_condition"), "io.safetensors"));
        var context = io.Read("encoder_hidden_states");
        string[] trained = ["conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight", "up_blocks.1.resnets.0.conv1.weight"];
        var weights = model.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        var field = trained.Aggregate(model.Field(context).Freeze(model).With("context", context), (f, name) => f.With(name, weights[name]));
        using var factor = weight.ToScalar();
        using var solved = Sampling.Differentiate(
            new SampleRequest { Field = field, Noise = io.Read("sample"), Grid = TimeGrid.LogSnr(DiscreteVp.Create(BetaSchedule.ScaledLinear, 0.00085, 0.012, 1000), 2), Sampler = Sampler.Ddim },
            x0 => x0.mul(x0).mean().mul(factor), cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(ScalarType.Float32, solved.Sample.dtype);
        var all = new OrderedDictionary<string, Tensor> { ["noise"] = solved.Noise.clone() };
        foreach (var (name, value) in solved.Inputs)
            all[name] = value.clone();
        return all;
    }

    private static double Cosine(Tensor a, Tensor b) => Unit(a).dot(Unit(b)).Number();

    private static Tensor Unit(Tensor x) => x.to(float64).flatten().div(x.to(float64).norm());
}
