using static TorchSharp.torch;

namespace AdjointDpm.Models.Vae;

/// <summary>Decoding a large latent in overlapping tiles whose seams are blended, which needs the memory of one tile when no gradient is asked for.</summary>
/// <remarks>
/// The tiles and the linear blend of diffusers' <c>tiled_decode</c>. The image is not quite that of one decode: normalisations and
/// attention see one tile at a time. Differentiable; where grad mode is on, the graphs of all tiles are held, with <see cref="AutoencoderKL.Checkpointing"/> that of one.
/// </remarks>
/// <param name="Side">Side of a tile in pixels. Default: the configuration's sample_size.</param>
/// <param name="Overlap">Part of a tile that overlaps the next, in [0, 1). Default: 0.25.</param>
public sealed record DecodeTiles(int? Side = null, double Overlap = 0.25)
{
    internal bool Split(Tensor latent, AutoencoderKLConfig config) => latent.shape[2] > LatentSide(config) || latent.shape[3] > LatentSide(config);

    internal Tensor Decode(Tensor latent, AutoencoderKLConfig config, Func<Tensor, Tensor> decode)
    {
        if (Overlap is not (>= 0 and < 1))
            throw new InvalidOperationException($"The overlap of tiles is a part of a tile from 0 to below 1, got {Overlap}.");
        using var scope = NewDisposeScope();
        var side = LatentSide(config);
        var step = Math.Max(1, (int)(side * (1 - Overlap)));
        var pixels = side * config.Reduction;
        var blend = (int)(pixels * Overlap);
        var keep = pixels - blend;
        List<Tensor>? above = null;
        var rows = new List<Tensor>();
        for (long top = 0; top < latent.shape[2]; top += step)
        {
            var row = new List<Tensor>();
            var kept = new List<Tensor>();
            for (long left = 0; left < latent.shape[3]; left += step)
            {
                var tile = decode(Cut(Cut(latent, 2, top, side), 3, left, side));
                if (above is not null)
                    tile = Blend(above[row.Count], tile, 2, blend);
                if (row.Count > 0)
                    tile = Blend(row[^1], tile, 3, blend);
                row.Add(tile);
                kept.Add(Cut(Cut(tile, 2, 0, keep), 3, 0, keep));
            }

            rows.Add(cat(kept, 3));
            above = row;
        }

        return Cut(Cut(cat(rows, 2), 2, 0, latent.shape[2] * config.Reduction), 3, 0, latent.shape[3] * config.Reduction).MoveToOuterDisposeScope();
    }

    private int LatentSide(AutoencoderKLConfig config) => Math.Max(1, (Side ?? config.SampleSize.Values[0]) / config.Reduction);

    private static Tensor Cut(Tensor x, int dimension, long from, long length) => x.narrow(dimension, from, Math.Min(length, x.shape[dimension] - from));

    // The first pixels of b fade in from the last of a.
    private static Tensor Blend(Tensor a, Tensor b, int dimension, long extent)
    {
        extent = Math.Min(extent, Math.Min(a.shape[dimension], b.shape[dimension]));
        if (extent == 0)
            return b;
        var ramp = tensor([.. Enumerable.Range(0, (int)extent).Select(i => (double)i / extent)], dtype: b.dtype, device: b.device);
        ramp = dimension == 2 ? ramp.reshape(1, 1, -1, 1) : ramp.reshape(1, 1, 1, -1);
        var (last, first) = (a.narrow(dimension, a.shape[dimension] - extent, extent), b.narrow(dimension, 0, extent));
        var mixed = last.Plus(ramp.mul(first.sub(last)));
        return cat([mixed, b.narrow(dimension, extent, b.shape[dimension] - extent)], dimension);
    }
}
