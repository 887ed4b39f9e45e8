using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The declared inputs while a solve uses their requires_grad and grad; puts both back on disposal.</summary>
/// <remarks>Gradients accumulate in place in grad, in the order of the reverse sweep: one buffer an input, whatever the number of steps.</remarks>
internal sealed class BorrowedLeaves : IDisposable
{
    private readonly NoiseField _field;
    private readonly List<(Tensor Leaf, bool RequiredGrad, Tensor? Grad)> _before = [];

    /// <summary>Borrows. Until <see cref="Arm"/>, neither declared nor frozen tensors require grad: whatever still does is undeclared.</summary>
    public BorrowedLeaves(NoiseField field)
    {
        _field = field;
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

    /// <summary>Makes the declared inputs require grad.</summary>
    public void Arm()
    {
        foreach (var input in _field.Inputs)
            input.Value.requires_grad = true;
        Inputs = [.. _field.Inputs.Select(i => i.Value)];
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
        foreach (var (name, input) in _field.Inputs)
        {
            var gradient = input.grad;
            input.grad = null;
            if (gradient is null)
                unreached.Add(name);
            gradients.Add(name, (gradient ?? zeros_like(input)).detach().MoveToOuterDisposeScope());
        }

        return (gradients, unreached);
    }

    /// <summary>Name of the first declared input whose gradient so far is not finite.</summary>
    public string? FirstNonFinite()
    {
        using var scope = NewDisposeScope();
        foreach (var (name, input) in _field.Inputs)
        {
            if (input.grad is { } grad && !Solve.IsFinite(grad))
                return name;
        }

        return null;
    }

    /// <summary>Puts everything back.</summary>
    public void Dispose() => GiveBack();

    /// <summary>Puts everything back, until it is borrowed again.</summary>
    public void GiveBack()
    {
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
