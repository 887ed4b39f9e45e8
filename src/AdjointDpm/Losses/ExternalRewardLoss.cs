using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>What a reward computed elsewhere gives for a batch.</summary>
/// <param name="Scores">One score for each picture, [B].</param>
/// <param name="Gradients">∂score_i/∂picture_i, of the pictures' shape; null where none was asked for, or where there is none.</param>
public readonly record struct RewardScores(Tensor Scores, Tensor? Gradients);

/// <summary>Computes a reward elsewhere: another process, machine or library.</summary>
/// <param name="images">Pictures [B, C, H, W] without a graph, in the range that was asked for, on the samples' device and in their dtype.</param>
/// <param name="wantGradients">Whether gradients will be used.</param>
/// <returns>Scores and gradients, of any floating dtype and device, in the current dispose scope.</returns>
public delegate RewardScores RewardFunction(Tensor images, bool wantGradients);

/// <summary>A reward computed outside of torch's graph, with the gradient that it brings. The loss is minus the score, or the score itself for what gives losses.</summary>
/// <remarks>
/// The score s and the gradient g enter as s + Σ g · (x − stop(x)): the value is s to the bit, and the chain rule carries on g to the bit. What is given is believed; <see cref="RewardCheck"/> tests it.
/// The second derivative of this expression is zero, whatever that of the reward: not for use where a gradient is differentiated again.
/// </remarks>
public sealed class ExternalRewardLoss : SampleLoss
{
    private readonly RewardFunction _reward;
    private readonly PixelRange _range;
    private readonly bool _maximise;
    private readonly string _source;

    /// <summary>A loss of a reward from outside.</summary>
    /// <param name="reward">Computes it.</param>
    /// <param name="range">Values of the pictures that it takes. Default: [0, 1].</param>
    /// <param name="maximise">Whether its scores are better the higher they are. Default: true.</param>
    /// <param name="source">What errors call it, such as its address. Default: "the reward".</param>
    public ExternalRewardLoss(RewardFunction reward, PixelRange range = PixelRange.Unit, bool maximise = true, string source = "the reward") =>
        (_reward, _range, _maximise, _source) = (reward, range, maximise, source);

    /// <inheritdoc/>
    /// <exception cref="InvalidDataException">Scores or gradients have a wrong shape, or are not finite.</exception>
    /// <exception cref="NoGradientException">A gradient is needed, and none is given.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var images = RewardInput.Of(samples, _range);
        var want = is_grad_enabled() && samples.requires_grad;
        var constant = images.detach();
        var given = Ask(constant, want);
        var scores = Finite(RewardInput.Scores(_source, given.Scores.detach(), samples), "scores").to(samples.dtype, samples.device);
        if (want)
        {
            var gradients = given.Gradients?.detach() ?? throw new NoGradientException($"{_source} gives scores without a gradient with respect to the picture.");
            if (!gradients.shape.AsSpan().SequenceEqual(samples.shape) || !gradients.is_floating_point())
                throw new InvalidDataException($"{_source} gives gradients {gradients.dtype}[{string.Join(", ", gradients.shape)}] for pictures [{string.Join(", ", samples.shape)}]; expected the same shape, in floating point.");
            scores = scores.Plus(Finite(gradients, "gradients").to(samples.dtype, samples.device).mul(images.sub(constant)).flatten(1).sum([1]));
        }

        return (_maximise ? scores.neg() : scores.alias()).MoveToOuterDisposeScope();
    }

    private RewardScores Ask(Tensor images, bool want)
    {
        using var frozen = no_grad();
        return _reward(images, want);
    }

    private Tensor Finite(Tensor values, string what)
    {
        using var flags = values.isfinite();
        using var all = flags.all();
        return all.IsTrue() ? values : throw new InvalidDataException($"{_source} gives {what} that are not finite.");
    }
}
