using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Draws the target of the inversion example: a digit by the sampler that the example has, from the noise that it has. Its values are rounded to a PNG's.</summary>
internal static class InversionTarget
{
    public static void Write(string path, string model, long label, ulong seed)
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
        Picture.Write(path, drawn.Sample[0]);
    }
}
