using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>The whole way, for any folder: text, latents, image, loss, and the gradient for everything.</summary>
internal static class StableDiffusionRuns
{
    /// <summary>Noise, prompt, negative prompt, weights and LoRA through the decoder, against the unrolled gradient and, for the prompt, a finite difference.</summary>
    public static void TextToLossAndBack(StableDiffusionFolder folder, int steps, int size = 32, params string[] weights)
    {
        using var scope = NewDisposeScope();
        using var model = folder.Load();
        using var prompt = model.Encode(["a photo of a cat", "a red square, in the style of an old master"]);
        using var negative = model.EncodeNothing(2);
        var noise = model.Noise(2, size, size, new NoiseKey(7));
        var picture = new PictureSize(size, size);
        using var lora = new Lora(model.Unet, name => name.Contains("attn2.to_q", StringComparison.Ordinal), rank: 2, alpha: 4, seed: 3);
        using (no_grad())
        {
            foreach (var (name, value) in lora.Parameters)
            {
                if (name.Contains("lora_B", StringComparison.Ordinal))
                    value.fill_(0.02);
            }
        }

        lora.Fold();
        NoiseField Field() => lora.WeightNames.Zip(lora.Weights).Aggregate(
            model.Field(prompt, negative, 3, picture).With("prompt", prompt.States).With("negative", negative.States),
            (field, w) => field.With("unet." + w.First, w.Second));
        Tensor Loss(Tensor x0) => model.Decode(x0).Squared().mean();
        using var first = Sampling.Differentiate(model.Request(Field(), noise, steps), Loss, cancellationToken: TestContext.Current.CancellationToken);
        using var again = Sampling.Differentiate(model.Request(Field(), noise, steps), Loss, cancellationToken: TestContext.Current.CancellationToken);
        using var unrolled = Sampling.Differentiate(model.Request(Field(), noise, steps), Loss, GradientMethod.StoreAll, TestContext.Current.CancellationToken);
        Assert.Equal(first.Loss, again.Loss);
        Assert.True(first.Sample.Equals(again.Sample));
        Assert.True(first.Noise.Equals(again.Noise));
        Assert.Empty(first.Unreached);
        Reference.Close(unrolled.Noise, first.Noise, "noise");
        foreach (var (name, gradient) in first.Inputs)
        {
            Assert.True(gradient.Equals(again.Inputs[name]), name);
            Reference.Close(unrolled.Inputs[name], gradient, name, 1e-4);
        }

        var adapters = lora.Gradients([.. lora.WeightNames.Select(n => first.Inputs["unet." + n])]);
        Assert.All(adapters, g => Assert.True(g.isfinite().all().IsTrue() && g.abs().max().Number() > 0));

        // A finite difference along the gradient of noise and prompt together.
        double At(double h)
        {
            using var moved = new PromptEmbeddings(prompt.States + first.Inputs["prompt"] * (h / first.Inputs["prompt"].norm().Number()), prompt.Pooled?.view_as(prompt.Pooled));
            var from = noise + first.Noise * (h / first.Noise.norm().Number());
            using var result = Sampling.Sample(model.Request(model.Field(moved, negative, 3, picture), from, steps), TestContext.Current.CancellationToken);
            using var frozen = no_grad();
            return Loss(result.Sample).Number();
        }

        const double H = 0.05;
        var expected = first.Noise.norm().Number() + first.Inputs["prompt"].norm().Number();
        Assert.Equal(1, (At(H) - At(-H)) / (2 * H) / expected, 0.02);
    }
}
