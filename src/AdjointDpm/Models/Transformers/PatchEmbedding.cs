using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Transformers;

/// <summary>diffusers' <c>PatchEmbed</c> with a table of positions from which the middle is cut: [B, C, H, W] to [B, H W / p², width].</summary>
internal sealed class PatchEmbedding : nn.Module<Tensor, Tensor>
{
    private const double MaxPeriod = 10000;
    private readonly Conv2d proj;
    private readonly Tensor pos_embed;
    private readonly long _patch, _side;

    public PatchEmbedding(SD3TransformerConfig config)
        : base(nameof(PatchEmbedding))
    {
        (_patch, _side) = (config.PatchSize, config.PosEmbedMaxSize);
        if (_patch < 1 || _side < 1 || config.SampleSize < _patch || config.Width % 4 != 0)
            throw new ModelConfigException($"patch_size {_patch}, sample_size {config.SampleSize}, pos_embed_max_size {_side} and {config.Width} channels make no table of positions: all are positive, the sample at least a patch, and the channels a multiple of 4.");
        proj = Layers.Conv2d(config.InChannels, config.Width, _patch, stride: _patch);
        pos_embed = tensor(Table(config.Width, config.PosEmbedMaxSize, config.SampleSize / config.PatchSize), [1, _side * _side, config.Width]);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        if (x.dim() != 4 || x.shape[2] % _patch != 0 || x.shape[3] % _patch != 0 || x.shape[2] / _patch > _side || x.shape[3] / _patch > _side)
            throw new ArgumentException($"Latents of [{string.Join(", ", x.shape)}] are no whole number of patches of {_patch}, or more than the {_side} by {_side} that the network has positions for.", nameof(x));
        using var scope = NewDisposeScope();
        var (height, width) = (x.shape[2] / _patch, x.shape[3] / _patch);
        var places = pos_embed.reshape(_side, _side, -1).narrow(0, (_side - height) / 2, height).narrow(1, (_side - width) / 2, width).reshape(1, height * width, -1);
        return proj.call(x).flatten(2).transpose(1, 2).Plus(places).MoveToOuterDisposeScope();
    }

    /// <summary>Sines, then cosines, of the column in the first half of the channels and of the row in the second.</summary>
    private static float[] Table(int width, int side, int trained)
    {
        var quarter = width / 4;
        var values = new float[side * side * width];
        // Places are scaled to those of training, in float32 as there.
        var places = Enumerable.Range(0, side).Select(i => (double)(i / (float)((double)side / trained))).ToArray();
        var frequencies = Enumerable.Range(0, quarter).Select(i => 1 / Math.Pow(MaxPeriod, i / (double)quarter)).ToArray();
        for (var at = 0; at < side * side; at++)
        {
            foreach (var (place, from) in new[] { (places[at % side], 0), (places[at / side], 2 * quarter) })
            {
                for (var i = 0; i < quarter; i++)
                {
                    values[(at * width) + from + i] = (float)Math.Sin(place * frequencies[i]);
                    values[(at * width) + from + quarter + i] = (float)Math.Cos(place * frequencies[i]);
                }
            }
        }

        return values;
    }
}
