using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>A sample, its loss, and the loss's gradients with respect to what produced the sample. Owns its tensors.</summary>
public sealed class SampleGradients : IDisposable
{
    internal SampleGradients(double loss, Tensor sample, Tensor noise, OrderedDictionary<string, Tensor> inputs, IReadOnlyList<Tensor> states, IReadOnlyList<string> unreached, TimeGrid grid, SolveStatistics statistics)
    {
        (Loss, Sample, Noise, Inputs, States, Unreached, Grid, Statistics) = (loss, sample, noise, inputs, states, unreached, grid, statistics);
    }

    /// <summary>Value of the loss, the sum of all if there are several.</summary>
    public double Loss { get; }

    /// <summary>x_0, of the noise's shape and dtype.</summary>
    public Tensor Sample { get; }

    /// <summary>∂L/∂x_T, of the noise's shape and dtype.</summary>
    public Tensor Noise { get; }

    /// <summary>∂L/∂input by name, in the order of declaration; each of its input's shape and dtype, float32 for inputs in half precision.</summary>
    public IReadOnlyDictionary<string, Tensor> Inputs { get; }

    /// <summary>∂L/∂x at each point of the requested grid, from x_T to x_0, if <see cref="Objective.KeepStateGradients"/>; otherwise empty. The n-th is the gradient of the n-th of <see cref="Samplers.SampleRequest.Controls"/>. Zero before the steps of a truncated gradient.</summary>
    public IReadOnlyList<Tensor> States { get; }

    /// <summary>Declared inputs on which the loss was found not to depend at all. Their gradients are exact zeros.</summary>
    public IReadOnlyList<string> Unreached { get; }

    /// <summary>Where the sampler stopped: the request's grid, or the one that an adaptive sampler accepted.</summary>
    public TimeGrid Grid { get; }

    /// <summary>What it cost.</summary>
    public SolveStatistics Statistics { get; }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        Sample.Dispose();
        Noise.Dispose();
        foreach (var gradient in Inputs.Values.Concat(States))
            gradient.Dispose();
    }
}

/// <summary>A sample and what it cost. Owns its tensor.</summary>
public sealed class SampleResult : IDisposable
{
    internal SampleResult(Tensor sample, TimeGrid grid, SolveStatistics statistics) => (Sample, Grid, Statistics) = (sample, grid, statistics);

    /// <summary>x_0, of the noise's shape and dtype.</summary>
    public Tensor Sample { get; }

    /// <summary>Where the sampler stopped: the request's grid, or the one that an adaptive sampler accepted.</summary>
    public TimeGrid Grid { get; }

    /// <summary>What it cost.</summary>
    public SolveStatistics Statistics { get; }

    /// <summary>Frees the tensor.</summary>
    public void Dispose() => Sample.Dispose();
}
