using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Values of the pictures that a reward from outside is given.</summary>
public enum PixelRange
{
    /// <summary>[0, 1], black to white: what most rewards take.</summary>
    Unit,

    /// <summary>[-1, 1], as diffusion models make them.</summary>
    Symmetric,
}

/// <summary>What all rewards from outside have in common.</summary>
internal static class RewardInput
{
    /// <summary>Samples in the reward's range, in the current dispose scope; not cut off.</summary>
    public static Tensor Of(Tensor samples, PixelRange range) => range == PixelRange.Symmetric ? samples.alias() : samples.mul(Rooted.Half).Plus(Rooted.Half);

    /// <summary>Scores as [B], or what is wrong with them.</summary>
    public static Tensor Scores(string source, Tensor scores, Tensor samples)
    {
        var batch = samples.shape[0];
        var shape = scores.shape;
        if (shape is not [var n] || n != batch)
        {
            throw new InvalidDataException($"{source} gives scores of shape [{string.Join(", ", shape)}] for {batch} pictures; expected [{batch}], one for each. "
                + (shape.Length == 2 && shape[0] == batch && shape[1] == 1 ? "Take the last axis off: .squeeze(1)." : "Do not average over the batch."));
        }

        if (!scores.is_floating_point())
            throw new NoGradientException($"{source} gives whole numbers ({scores.dtype}), which have no gradient.");
        return scores;
    }
}
