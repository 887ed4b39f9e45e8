using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Draws the target of an inversion example: a digit by the sampler that the example has, from the noise that it has, as it is or under an effect. Its values are rounded to a PNG's.</summary>
internal static class InversionTarget
{
    /// <summary>What is done to a digit [B, 1, H, W] in [-1, 1].</summary>
    public static IReadOnlyDictionary<string, Func<Tensor, Tensor>> Effects { get; } = new Dictionary<string, Func<Tensor, Tensor>>
    {
        ["none"] = digit => digit,
        // Ink spreads by one pixel to every side.
        ["thick"] = digit => nn.functional.max_pool2d(digit, 3, 1, 1),
        ["inverted"] = digit => digit.neg(),
        // A shear by 15 degrees about the middle: what stood upright leans to the right.
        ["slant"] = digit => nn.functional.grid_sample(digit.add(1), nn.functional.affine_grid(
            tensor(new[] { 1f, MathF.Tan(MathF.PI / 12), 0, 0, 1, 0 }, [1, 2, 3]).expand(digit.shape[0], 2, 3), digit.shape, align_corners: false), align_corners: false).sub(1),
    };

    public static void Write(string path, string model, long label, ulong seed, string effect)
    {
        using var scope = NewDisposeScope();
        var folder = DiffusersFolder.Open(model);
        using var unet = folder.LoadUNet2D();
        var request = new SampleRequest
        {
            Field = unet.Field(tensor([label]), guidance: 1.5).Freeze(unet) with { Prediction = folder.ReadScheduler().Prediction },
            Noise = CounterNoise.Normal(new NoiseKey(seed), [1, 1, 28, 28]),
            Grid = TimeGrid.Create(GridKind.Time, folder.ReadScheduler().Schedule(), 10),
        };
        using var drawn = Sampling.Sample(request);
        Picture.Write(path, Effects[effect](drawn.Sample)[0]);
    }
}
