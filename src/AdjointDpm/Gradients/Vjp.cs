using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Vector–Jacobian products by reverse-mode differentiation, in the one form that cannot abort the process.</summary>
/// <remarks>TorchSharp's autograd.grad lets native errors escape as std::terminate. autograd.backward with named leaves is guarded; what it does not check is checked here first.</remarks>
public static class Vjp
{
    /// <summary>Adds cotangentᵀ ∂output/∂leaf to the grad of each leaf. Frees the graph.</summary>
    /// <param name="output">Result of a computation in grad mode.</param>
    /// <param name="cotangent">Same shape and dtype as the output.</param>
    /// <param name="leaves">Leaf tensors that require grad; one that the output does not depend on is left alone.</param>
    /// <returns>False if the output depends on nothing that requires grad, so that no leaf was touched.</returns>
    /// <exception cref="ArgumentException">Shapes or dtypes disagree, or a tensor is no leaf that requires grad.</exception>
    public static bool Accumulate(Tensor output, Tensor cotangent, params IReadOnlyList<Tensor> leaves)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(cotangent);
        ArgumentNullException.ThrowIfNull(leaves);
        foreach (var leaf in leaves)
        {
            if (!leaf.is_leaf || !leaf.requires_grad)
                throw new ArgumentException($"A tensor to differentiate with respect to, {Describe(leaf)}, is no leaf that requires grad. Use a detached tensor with requires_grad set.", nameof(leaves));
        }

        return Accumulate([(output, cotangent)], leaves);
    }

    /// <summary>The same for several outputs of one graph, with respect to any tensors of it, leaves or not.</summary>
    internal static bool Accumulate(IReadOnlyList<(Tensor Output, Tensor Cotangent)> outputs, IReadOnlyList<Tensor> tensors, bool createGraph = false)
    {
        foreach (var (output, cotangent) in outputs)
        {
            if (!output.shape.AsSpan().SequenceEqual(cotangent.shape) || output.dtype != cotangent.dtype)
                throw new ArgumentException($"The cotangent is {Describe(cotangent)}, the output {Describe(output)}; they must agree.", nameof(outputs));
        }

        (Tensor Output, Tensor Cotangent)[] reached = [.. outputs.Where(o => o.Output.requires_grad)];
        if (reached.Length == 0 || tensors.Count == 0)
            return false;
        Recomputed.Begin();
        try
        {
            autograd.backward([.. reached.Select(o => o.Output)], [.. reached.Select(o => o.Cotangent)], retain_graph: createGraph, create_graph: createGraph, inputs: [.. tensors]);
        }
        catch
        {
            // What a block met first says more than what came of it.
            Recomputed.ThrowIfFailed();
            throw;
        }

        // The binding passes raw handles: what they belong to must outlive the call.
        GC.KeepAlive(outputs);
        GC.KeepAlive(reached);
        GC.KeepAlive(tensors);
        Recomputed.ThrowIfFailed();
        return true;
    }

    /// <summary>∇f(x) of a scalar function (or of a sum over samples), with a graph of its own: itself differentiable with respect to x and all else that f depends on.</summary>
    /// <param name="function">Differentiable twice; summed.</param>
    /// <param name="x">Where. Becomes part of the graph.</param>
    internal static Tensor DifferentiableGradient(Func<Tensor, Tensor> function, Tensor x)
    {
        // A node of its own, so that x's grad is not touched (an alias is x itself); a leaf if x does not require grad.
        var own = x.requires_grad ? x.view_as(x) : x.detach().requires_grad_();
        var value = function(own).sum();
        Accumulate([(value, ones_like(value))], [own], createGraph: true);
        var gradient = own.grad ?? zeros_like(x);
        // The gradient's graph holds the tensor and the tensor would hold the gradient: neither would ever be freed.
        own.grad = null;
        return gradient;
    }

    /// <summary>f(x) and cotangentᵀ ∂f/∂x.</summary>
    /// <param name="function">Differentiable function of one tensor.</param>
    /// <param name="x">Where to evaluate; not modified, need not require grad.</param>
    /// <param name="cotangent">Of the shape of f(x); null stands for ones.</param>
    /// <returns>Value and gradient, detached, in the current dispose scope.</returns>
    public static (Tensor Value, Tensor Gradient) Of(Func<Tensor, Tensor> function, Tensor x, Tensor? cotangent)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(x);
        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        var leaf = x.detach().requires_grad_();
        var value = function(leaf);
        Accumulate(value, cotangent ?? ones_like(value), leaf);
        var gradient = leaf.grad ?? zeros_like(x);
        return (value.detach().MoveToOuterDisposeScope(), gradient.MoveToOuterDisposeScope());
    }

    private static string Describe(Tensor tensor) => $"{tensor.dtype}[{string.Join(", ", tensor.shape)}]";
}
