using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The declared inputs while a solve uses their requires_grad and grad; puts both back on disposal.</summary>
/// <remarks>
/// Gradients accumulate in place in grad, in the order of the reverse sweep: one buffer an input, whatever the number of steps. Where a
/// network is in half precision they do so in float32, since a sum in its own dtype would swallow what later steps add.
/// </remarks>
internal sealed class BorrowedLeaves : IDisposable
{
    private readonly NoiseField _field;
    private readonly List<(Tensor Leaf, bool RequiredGrad, Tensor? Grad)> _before = [];
    private readonly bool _half;
    private Tensor?[] _sums = [];

    /// <summary>Borrows. Until <see cref="Arm"/>, neither declared nor frozen tensors require grad: whatever still does is undeclared.</summary>
    public BorrowedLeaves(NoiseField field)
    {
        _field = field;
        var dtypes = field.Frozen.Concat(field.Inputs.Select(i => i.Value)).Select(t => t.dtype).ToHashSet();
        ScalesCotangents = dtypes.Contains(ScalarType.Float16);
        _half = ScalesCotangents || dtypes.Contains(ScalarType.BFloat16);
        Borrow();
    }

    /// <summary>Borrows again what was given back.</summary>
    public void Borrow()
    {
        foreach (var leaf in _field.Frozen.Concat(_field.Inputs.Select(i => i.Value)))
        {
            _before.Add((leaf, leaf.requires_grad, leaf.grad?.DetachFromDisposeScope()));
            leaf.grad = null;
            leaf.requires_grad = false;
        }
    }

    /// <summary>Declared inputs, in order.</summary>
    public IReadOnlyList<Tensor> Inputs { get; private set; } = [];

    /// <summary>Whether cotangents are scaled before they enter the network: a float16 has no room for small ones.</summary>
    public bool ScalesCotangents { get; }

    /// <summary>Makes the declared inputs require grad.</summary>
    public void Arm()
    {
        foreach (var input in _field.Inputs)
            input.Value.requires_grad = true;
        Inputs = [.. _field.Inputs.Select(i => i.Value)];
        if (_sums.Length != Inputs.Count)
            _sums = new Tensor?[Inputs.Count];
    }

    /// <summary>Adds what one product left in grad to sums in float32, where the network is in half precision.</summary>
    /// <param name="scale">What the cotangent was multiplied by.</param>
    public void Settle(double scale)
    {
        if (!_half)
            return;
        using Scalar back = (1 / scale).ToScalar();
        for (var i = 0; i < Inputs.Count; i++)
        {
            if (Inputs[i].grad is not { } grad)
                continue;
            Inputs[i].grad = null;
            using var scope = NewDisposeScope();
            var wide = grad.Wide();
            if (_sums[i] is { } sum)
                sum.add_(wide, back);
            else
                _sums[i] = wide.mul(back).DetachFromDisposeScope();
        }
    }

    /// <summary>Makes the declared inputs constants again, for one evaluation.</summary>
    public void Disarm()
    {
        foreach (var input in _field.Inputs)
            input.Value.requires_grad = false;
    }

    /// <summary>Takes the accumulated gradients out, into the dispose scope around the current one; zeros for inputs that were never reached, which are listed.</summary>
    public (OrderedDictionary<string, Tensor> Gradients, IReadOnlyList<string> Unreached) Collect()
    {
        var gradients = new OrderedDictionary<string, Tensor>();
        var unreached = new List<string>();
        // In half precision an unrolled gradient was added up by autograd itself.
        Settle(1);
        for (var i = 0; i < _field.Inputs.Length; i++)
        {
            var (name, input) = _field.Inputs[i];
            var gradient = i < _sums.Length && _sums[i] is { } sum ? sum : input.grad;
            input.grad = null;
            if (gradient is null)
                unreached.Add(name);
            gradients.Add(name, (gradient ?? (_half ? zeros_like(input).Wide() : zeros_like(input))).detach().MoveToOuterDisposeScope());
        }

        return (gradients, unreached);
    }

    /// <summary>Name of the first declared input whose gradient so far is not finite.</summary>
    public string? FirstNonFinite()
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < _field.Inputs.Length; i++)
        {
            if ((_field.Inputs[i].Value.grad is { } grad && !Solve.IsFinite(grad)) || (i < _sums.Length && _sums[i] is { } sum && !Solve.IsFinite(sum)))
                return _field.Inputs[i].Name;
        }

        return null;
    }

    /// <summary>Puts everything back.</summary>
    public void Dispose() => GiveBack();

    /// <summary>Puts everything back, until it is borrowed again.</summary>
    public void GiveBack()
    {
        foreach (var sum in _sums)
            sum?.Dispose();
        _sums = [];
        // Last in, first out: a tensor both frozen and declared gets its first values back.
        foreach (var (leaf, requiredGrad, grad) in Enumerable.Reverse(_before))
        {
            leaf.requires_grad = requiredGrad;
            leaf.grad = grad;
            grad?.Dispose();
        }

        _before.Clear();
    }
}
