using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

internal sealed partial class Solve
{
    private readonly Dictionary<int, Tensor> _ofStates = [];

    /// <summary>What is differentiated; null while only sampling.</summary>
    public Objective? Objective { get; init; }

    /// <summary>Whether only memory is looked at: a loss that is not finite takes as much as another.</summary>
    public bool OnlyMeasures { get; init; }

    /// <summary>Sum of all losses met so far.</summary>
    public double Loss { get; private set; }

    /// <summary>Hands over ∂L/∂x at each point of the requested grid, in order; empty if not asked for.</summary>
    public IReadOnlyList<Tensor> TakeStateGradients()
    {
        if (Objective is not { KeepStateGradients: true })
            return [];
        // States that the gradient never reached are constants.
        Tensor[] taken = [.. Enumerable.Range(0, RequestedGrid.Points.Count).Select(n => _ofStates.TryGetValue(n, out var g) ? g : zeros_like(Request.Noise).DetachFromDisposeScope())];
        _ofStates.Clear();
        return taken;
    }

    /// <summary>Whether the way back has to stop at a point of the grid that is walked.</summary>
    public bool IsMet(int n) => Objective is { } o && (o.KeepStateGradients || o.OnStateGradient is not null || (Requested(n) is { } point && o.OnStates.ContainsKey(point)));

    /// <summary>The way back has come to a point: its loss enters, and the state's gradient is kept if asked for.</summary>
    /// <param name="n">Point of the grid that is walked.</param>
    /// <param name="y">Slot 0 there.</param>
    /// <param name="cotangent">∂L/∂y of what comes after; null for zero.</param>
    /// <returns>∂L/∂y, the same tensor if nothing changed.</returns>
    public Tensor? Meet(int n, Tensor y, Tensor? cotangent)
        => IsMet(n) && Requested(n) is { } point ? Meet(point, Scale(n), y, cotangent) : cotangent;

    /// <summary>The same for a requested point and any scale x / y.</summary>
    public Tensor? Meet(int point, double scale, Tensor y, Tensor? cotangent)
    {
        using var scope = NewDisposeScope();
        using Scalar toX = scale.ToScalar(), toY = (1 / scale).ToScalar();
        var met = cotangent;
        if (OwnGradient(point, y.mul(toX)) is { } own)
            met = met is null ? own.mul(toX) : met.add(own, toX);
        KeepStateGradient(point, met?.mul(toY));
        if (!ReferenceEquals(met, cotangent))
        {
            cotangent?.Dispose();
            met!.MoveToOuterDisposeScope();
        }

        return met;
    }

    /// <summary>∂l_n/∂x of the loss at a requested point, or null if it has none; inputs that the loss reads accumulate.</summary>
    public Tensor? OwnGradient(int point, Tensor x)
        => Objective!.OnStates.TryGetValue(point, out var loss) ? LossGradient(loss, x) : null;

    /// <summary>Tells of ∂L/∂x at a requested point and keeps it, if asked for.</summary>
    public void KeepStateGradient(int point, Tensor? gradient)
    {
        if (gradient is null)
            return;
        Objective?.OnStateGradient?.Invoke(point, gradient);
        if (Objective is { KeepStateGradients: true })
            _ofStates[point] = gradient.alias().DetachFromDisposeScope();
    }

    /// <summary>Frees kept gradients that nobody took.</summary>
    public void Dispose()
    {
        foreach (var gradient in _ofStates.Values)
            gradient.Dispose();
    }

    /// <summary>Index in the requested grid of a point of the grid that is walked; null for one that an adaptive sampler put in.</summary>
    public int? Requested(int n)
    {
        if (ReferenceEquals(Request.Grid, RequestedGrid))
            return n;
        var point = Request.Grid.Points[n];
        var index = RequestedGrid.Points.TakeWhile(p => p != point).Count();
        return index < RequestedGrid.Points.Count ? index : null;
    }

    /// <summary>x over slot 0 at a point of the grid that is walked.</summary>
    public double Scale(int n) => Request.Sampler.Coordinates.Scale(Request.Grid.Points[n].Level);

    /// <summary>A loss and its gradient with respect to a state. Counts the loss in; inputs that it reads accumulate.</summary>
    /// <param name="loss">Scalar loss.</param>
    /// <param name="x">State or sample.</param>
    /// <param name="weight">Factor of the gradients, not of the counted loss.</param>
    /// <param name="counted">Whether the loss is counted.</param>
    public Tensor LossGradient(Func<Tensor, Tensor> loss, Tensor x, double weight = 1, bool counted = true)
    {
        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        var leaf = x.detach().requires_grad_();
        var value = loss(leaf);
        if (value.numel() != 1)
            throw new ArgumentException($"The loss must be a scalar, but has shape [{string.Join(", ", value.shape)}]. Reduce it, for instance with mean().", nameof(loss));
        if (!value.requires_grad)
            throw new ArgumentException("The loss does not depend on the sample: it was detached, or computed without gradients.", nameof(loss));
        var number = value.detach().to(ScalarType.Float64).Number();
        if (!double.IsFinite(number) && !OnlyMeasures)
            throw new NonFiniteException("loss");
        using var scalar = weight.ToScalar();
        Vjp.Accumulate(value, full_like(value, scalar), [leaf, .. Leaves!.Inputs]);
        var gradient = leaf.grad ?? zeros_like(leaf);
        if (!IsFinite(gradient) && !OnlyMeasures)
            throw new NonFiniteException("gradient of the loss with respect to the sample");
        Loss += counted ? number : 0;
        return gradient.MoveToOuterDisposeScope();
    }

    // x plus the control at this point, in the state's coordinates.
    private SamplerState Steer(SamplerState state)
    {
        if (state.Step >= Request.Controls.Count || Request.Controls[state.Step] is not { } control)
            return state;
        using var toY = (1 / Scale(state.Step)).ToScalar();
        var steered = state.Y.add(control.detach(), toY);
        state.Y.Dispose();
        return state with { Slots = state.Slots.SetItem(0, steered) };
    }
}
