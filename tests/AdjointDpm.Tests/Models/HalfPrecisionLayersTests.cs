using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>What an autocast would compute in float32 inside a network in half precision is computed so by libtorch's kernels: they round once, at the end.</summary>
public sealed class HalfPrecisionLayersTests(ITestOutputHelper output)
{
    public static TheoryData<string, ScalarType> Layers()
    {
        var data = new TheoryData<string, ScalarType>();
        foreach (var layer in new[] { "group norm", "layer norm", "softmax" })
        {
            data.Add(layer, ScalarType.BFloat16);
            data.Add(layer, ScalarType.Float16);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Layer_InHalfPrecision_DiffersFromFloat32ByItsOwnRounding(string layer, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        // A mean far from zero and many numbers: where sums in half precision would lose most.
        using Scalar far = 4.0;
        var given = CounterNoise(1, 2, 64, 32, 32).add(far).to(dtype);
        var cotangent = CounterNoise(2, 2, 64, 32, 32).to(dtype);
        var (narrow, narrowGradient) = Run(given, cotangent);
        var (wide, wideGradient) = Run(given.to(float32), cotangent.to(float32));
        // Half of the last bit of each number, and what the way back reads of rounded results.
        var unit = dtype == ScalarType.BFloat16 ? Math.Pow(2, -8) : Math.Pow(2, -11);
        var forward = Error(narrow, wide);
        var backward = Error(narrowGradient, wideGradient);
        output.WriteLine($"{layer}, {dtype}: result {forward / unit:f2}, gradient {backward / unit:f2} of its rounding {unit:e1}");
        Assert.True(forward <= unit, $"result {forward:e2}");
        Assert.True(backward <= 2 * unit, $"gradient {backward:e2}");

        (Tensor Result, Tensor Gradient) Run(Tensor x, Tensor v)
        {
            var leaf = x.detach().requires_grad_();
            var result = layer switch
            {
                "group norm" => nn.functional.group_norm(leaf, 32, ones(64, x.dtype), zeros(64, x.dtype)),
                "layer norm" => nn.functional.layer_norm(leaf, [32], ones(32, x.dtype), zeros(32, x.dtype)),
                _ => leaf.flatten(2).softmax(-1).reshape(leaf.shape),
            };
            result.backward([v]);
            return (result.detach(), leaf.grad!);
        }
    }

    private static double Error(Tensor narrow, Tensor wide) => (narrow.to(float64) - wide.to(float64)).norm().Number() / wide.to(float64).norm().Number();

    private static Tensor CounterNoise(ulong seed, params long[] shape) => AdjointDpm.Samplers.CounterNoise.Normal(new AdjointDpm.Samplers.NoiseKey(seed), shape);
}
