using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Shows another loss its samples in another size, or random square parts of them as if each were the whole; of parts, the mean.</summary>
/// <remarks>For networks that were trained on another size than the samples have, and against patterns that a network sees at one scale and place only. What the inner loss compares with must have the size that it is shown.</remarks>
/// <param name="inner">What looks; not owned.</param>
public sealed class ViewedLoss(SampleLoss inner) : SampleLoss
{
    /// <summary>Height and width that the loss is shown, in pixels. Pictures that are not square are squeezed. Default: null, the samples' own.</summary>
    public int? Side { get; init; }

    /// <summary>What parts are resized by. Default: a triangle, as wide as a new pixel where they shrink.</summary>
    public ResizeFilter Filter { get; init; }

    /// <summary>Parts to look at instead of the whole. Set it anew, with its step, before each step of an optimiser. Default: null, the whole.</summary>
    public CutoutPlan? Cutouts { get; set; }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The cutouts cannot be cut, or the size is below 1.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var (height, width) = (Side ?? samples.shape[2], Side ?? samples.shape[3]);
        if (Cutouts is null)
            return inner.PerSample(ImageResize.To(samples, height, width, Filter)).MoveToOuterDisposeScope();
        Tensor? total = null;
        var parts = Cutouts.For(samples.shape[2], samples.shape[3]);
        foreach (var part in parts)
        {
            var each = inner.PerSample(ImageResize.To(samples.narrow(2, part.Top, part.Side).narrow(3, part.Left, part.Side), height, width, Filter));
            total = total is null ? each : total.Plus(each);
        }

        using var share = (1.0 / parts.Count).ToScalar();
        return total!.mul(share).MoveToOuterDisposeScope();
    }
}
