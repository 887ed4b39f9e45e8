using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Result of <see cref="AdjointMatching"/>: loss, gradients and what they were made of. Owns its tensors.</summary>
public sealed class MatchingGradients : IDisposable
{
    internal MatchingGradients(double loss, double divergence, Tensor rewards, Tensor sample, IReadOnlyDictionary<string, Tensor> inputs, IReadOnlyList<string> unreached, IReadOnlyList<int> matched, double? threshold, int clipped, SolveStatistics statistics)
        => (Loss, Divergence, Rewards, Sample, Inputs, Unreached, Matched, Threshold, Clipped, Statistics) = (loss, divergence, rewards, sample, inputs, unreached, matched, threshold, clipped, statistics);

    /// <summary>The matching loss: mean over samples of the weighted sum over matched steps.</summary>
    public double Loss { get; }

    /// <summary>Mean of Σ ½ ‖v‖², of all steps or estimated from those matched: the Kullback–Leibler divergence of the finetuned model's trajectories from the base model's, if the finetuned model drew them. What finetuning maximises is the mean of scale r less this.</summary>
    public double Divergence { get; }

    /// <summary>r of each sample, without the scale, [B].</summary>
    public Tensor Rewards { get; }

    /// <summary>x_0, of the noise's shape and dtype.</summary>
    public Tensor Sample { get; }

    /// <summary>Gradient of the loss by input, in the order of declaration; each of its input's shape and dtype.</summary>
    public IReadOnlyDictionary<string, Tensor> Inputs { get; }

    /// <summary>Declared inputs on which no matched prediction depends. Their gradients are exact zeros.</summary>
    public IReadOnlyList<string> Unreached { get; }

    /// <summary>Steps that were matched, ascending from the noise.</summary>
    public IReadOnlyList<int> Matched { get; }

    /// <summary>The quantile <see cref="AdjointMatching.ClipQuantile"/> of ‖v + s a‖ over samples and matched steps; null if not asked for.</summary>
    public double? Threshold { get; }

    /// <summary>How many samples' steps were left out.</summary>
    public int Clipped { get; }

    /// <summary>States x at the grid's points from x_T to x_0, if <see cref="AdjointMatching.KeepTrajectory"/>; otherwise empty.</summary>
    public IReadOnlyList<Tensor> States { get; internal init; } = [];

    /// <summary>Lean adjoint at the grid's points, with respect to x, if <see cref="AdjointMatching.KeepTrajectory"/>; otherwise empty. The last is -scale ∇r(x_0).</summary>
    public IReadOnlyList<Tensor> Adjoints { get; internal init; } = [];

    /// <summary>What it cost: an evaluation forward and one with product of the base model for each step, one more of each of the finetuned model for each matched step, and one evaluation to look for inputs that the two share.</summary>
    public SolveStatistics Statistics { get; }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        Rewards.Dispose();
        Sample.Dispose();
        foreach (var tensor in Inputs.Values.Concat(States).Concat(Adjoints))
            tensor.Dispose();
    }
}
