using AdjointDpm.Gradients;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>Whether an embedding that was inverted from one pair does to other noises what it did to that one.</summary>
internal static class EffectTransfer
{
    /// <summary>What an effect is seen by: one number of each digit [B, 1, H, W] in [-1, 1].</summary>
    public static IReadOnlyDictionary<string, (string Name, Func<Tensor, Tensor> Of)> Measures { get; } = new Dictionary<string, (string, Func<Tensor, Tensor>)>
    {
        ["thick"] = ("ink, the share of white", x => Ink(x).mean([1, 2, 3])),
        ["inverted"] = ("ink, the share of white", x => Ink(x).mean([1, 2, 3])),
        ["slant"] = ("lean, the horizontal move per row in a digit's second moments", Lean),
    };

    /// <summary>Draws the same noises with the model before and after.</summary>
    /// <param name="Before">The measure of each digit without the effect.</param>
    /// <param name="After">The same noises with the learnt embedding.</param>
    /// <param name="Pair">The measure of the two pictures of the pair that was learnt from.</param>
    /// <param name="Recognised">Share of the digits after that a classifier which took no part sees as their class, with the ink put back where it was inverted.</param>
    public sealed record Result(double[] Before, double[] After, (double Plain, double Effect) Pair, double Recognised)
    {
        /// <summary>Digits that went at least half of the way that the pair shows, relative to what they were for ink, in absolute terms for lean.</summary>
        public int Shown(bool relative) => Before.Zip(After, (b, a) => relative
            ? Math.Log(a / b) >= 0.5 * Math.Log(Pair.Effect / Pair.Plain)
            : (a - b) * Math.Sign(Pair.Effect - Pair.Plain) >= 0.5 * Math.Abs(Pair.Effect - Pair.Plain)).Count(shown => shown);
    }

    public static Result Measure(string effect, string before, string after, string picture, long label, ulong seed, int noises, string? output = null)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var of = Measures[effect].Of;
        using var judge = ClassifierFolder.Load("examples/models/mnist-classifier-heldout");
        var others = CounterNoise.Normal(new NoiseKey(seed + 1000), [noises, 1, 28, 28]);
        var (plain, changed) = (Draw(before, others, label), Draw(after, others, label));
        var pair = (Draw(before, CounterNoise.Normal(new NoiseKey(seed), [1, 1, 28, 28]), label), ReferenceImage.Load(picture, 1));
        if (output is not null)
            Picture.Write(output, Sheet(plain, changed));
        return new(Numbers(of(plain)), Numbers(of(changed)), (Numbers(of(pair.Item1))[0], Numbers(of(pair.Item2))[0]), judge.Logits(effect == "inverted" ? changed.neg() : changed).argmax(1).eq(label).to(ScalarType.Float64).mean().item<double>());
    }

    private static Tensor Draw(string model, Tensor noise, long label)
    {
        var folder = DiffusersFolder.Open(model);
        using var unet = folder.LoadUNet2D();
        var field = unet.Field(full([noise.shape[0]], label, ScalarType.Int64), guidance: 1.5).Freeze(unet) with { Prediction = folder.ReadScheduler().Prediction };
        return Sampling.Sample(new SampleRequest { Field = field, Noise = noise, Grid = TimeGrid.Create(GridKind.Time, folder.ReadScheduler().Schedule(), 10), Sampler = Sampler.Ddim }).Sample;
    }

    // Rows of ten: without above with.
    private static Tensor Sheet(Tensor plain, Tensor changed) => cat([.. Enumerable.Range(0, (int)Math.Min(2, plain.shape[0] / 10)).SelectMany(row => new[] { Row(plain, row), Row(changed, row) })], 1);

    private static Tensor Row(Tensor digits, int row) => cat([.. Enumerable.Range(10 * row, 10).Select(i => digits[i])], 2);

    private static Tensor Ink(Tensor x) => x.add(1).div(2).clamp(0, 1);

    private static Tensor Lean(Tensor x)
    {
        var ink = Ink(x).squeeze(1);
        var mass = ink.sum([1, 2]);
        // Rows count upwards, so that leaning to the right is positive.
        var (row, column) = (arange(x.shape[2]).neg().to(ScalarType.Float32).unsqueeze(1), arange(x.shape[3]).to(ScalarType.Float32).unsqueeze(0));
        Tensor About(Tensor at) => at.sub(ink.mul(at).sum([1, 2]).div(mass).reshape(-1, 1, 1));
        var (down, across) = (About(row), About(column));
        return ink.mul(down).mul(across).sum([1, 2]).div(ink.mul(down).mul(down).sum([1, 2]));
    }

    private static double[] Numbers(Tensor values) => values.to(ScalarType.Float64).data<double>().ToArray();
}
