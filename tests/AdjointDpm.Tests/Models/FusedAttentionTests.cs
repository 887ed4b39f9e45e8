using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>libtorch's fused attention in the networks: the same to rounding.</summary>
public sealed class FusedAttentionTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Gradients_AreThoseOfPlainAttention(string kind)
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        foreach (var checkpointing in new[] { false, true })
        {
            model.Unet.Checkpointing = checkpointing;
            var (plain, fused) = (Gradients(false), Gradients(true));
            Assert.All(plain.Zip(fused), p => Assert.True(p.First.sub(p.Second).norm().Number() <= 1e-5 * p.First.norm().Number(), $"{p.First.sub(p.Second).norm().Number()} of {p.First.norm().Number()}"));
        }

        Tensor[] Gradients(bool fused)
        {
            model.Unet.FusedAttention = fused;
            Assert.Equal(fused, model.Unet.FusedAttention);
            using var prompt = model.Encode(["a fox"]);
            var weight = model.Unet.named_parameters().First(p => p.name.Contains("attn1.to_q", StringComparison.Ordinal)).parameter;
            var field = model.Field(prompt, size: new(16, 16)).With("prompt", prompt.States).With("q", weight);
            using var result = Sampling.Differentiate(model.Request(field, model.Noise(1, 16, 16, new(3)), 2), x => x.square().mean(), GradientMethod.Discrete, Token);
            return [result.Noise.clone(), .. result.Inputs.Values.Select(v => v.clone())];
        }
    }

    [Fact]
    public void SecondDerivatives_FailByName_AndDoNotEndTheProcess()
    {
        using var scope = NewDisposeScope();
        using var attention = new Attention(8, 8, 2, 4) { IsFused = true };
        using var grad = enable_grad();
        var x = ones(1, 16, 8).requires_grad_();
        var gradient = Vjp.DifferentiableGradient(v => attention.forward(v, v).sum(), x);
        Assert.ThrowsAny<Exception>(() => Vjp.Accumulate([(gradient, ones_like(gradient))], [x]));
    }
}
