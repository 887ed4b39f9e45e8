using System.Collections.Immutable;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>What is differentiated: a loss on the sample, losses on states on the way to it, and whether the gradient of each state is wanted.</summary>
/// <remarks>
/// States are x at the points of the requested grid: 0 is x_T, the number of steps is x_0. Losses on them enter the adjoint as jumps, a(t_n) += ∂l_n/∂x_n.
/// A state's gradient holds a multistep sampler's history constant, as a control added to the state does.
/// </remarks>
public sealed record Objective
{
    /// <summary>Scalar loss of x_0, differentiable; may decode first. Null for none.</summary>
    public Func<Tensor, Tensor>? OnSample { get; init; }

    /// <summary>Scalar losses of states by grid point, from 0 to one less than the number of steps. They are added up.</summary>
    public ImmutableSortedDictionary<int, Func<Tensor, Tensor>> OnStates { get; init; } = ImmutableSortedDictionary<int, Func<Tensor, Tensor>>.Empty;

    /// <summary>Whether to keep ∂L/∂x at every grid point: the gradients of <see cref="SampleRequest.Controls"/>, and where on the way the loss is decided. Default: false.</summary>
    public bool KeepStateGradients { get; init; }

    /// <summary>Told of ∂L/∂x at every grid point that the way back comes to, with the point. The tensor is the solve's own: read it and let go. Default: null.</summary>
    public Action<int, Tensor>? OnStateGradient { get; init; }

    internal void Validate(SampleRequest request)
    {
        if (OnSample is null && OnStates.IsEmpty)
            throw new ArgumentException("The objective has no loss. Set OnSample, OnStates or both.");
        foreach (var point in OnStates.Keys)
        {
            if (point < 0 || point >= request.Grid.Steps)
                throw new ArgumentException($"The objective has a loss at grid point {point}, but losses on states belong to points 0 to {request.Grid.Steps - 1}. The sample itself is for OnSample.");
        }
    }
}
