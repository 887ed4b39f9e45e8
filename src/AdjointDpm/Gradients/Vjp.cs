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
        if (!output.shape.AsSpan().SequenceEqual(cotangent.shape) || output.dtype != cotangent.dtype)
            throw new ArgumentException($"The cotangent is {Describe(cotangent)}, the output {Describe(output)}; they must agree.", nameof(cotangent));
        foreach (var leaf in leaves)
        {
            if (!leaf.is_leaf || !leaf.requires_grad)
                throw new ArgumentException($"A tensor to differentiate with respect to, {Describe(leaf)}, is no leaf that requires grad. Use a detached tensor with requires_grad set.", nameof(leaves));
        }

        if (!output.requires_grad || leaves.Count == 0)
            return false;
        autograd.backward([output], [cotangent], retain_graph: false, create_graph: false, inputs: [.. leaves]);
        // The binding passes raw handles: what they belong to must outlive the call.
        GC.KeepAlive(output);
        GC.KeepAlive(cotangent);
        GC.KeepAlive(leaves);
        return true;
    }

    /// <summary>f(x) and cotangentᵀ ∂f/∂x.</summary>
    /// <param name="function">Differentiable function of one tensor.</param>
    /// <param name="x">Where to evaluate; not modified, need not require grad.</param>
    /// <param name="cotangent">Of the shape of f(x).</param>
    /// <returns>Value and gradient, detached, in the current dispose scope.</returns>
    public static (Tensor Value, Tensor Gradient) Of(Func<Tensor, Tensor> function, Tensor x, Tensor cotangent)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(x);
        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        var leaf = x.detach().requires_grad_();
        var value = function(leaf);
        Accumulate(value, cotangent, leaf);
        var gradient = leaf.grad ?? zeros_like(x);
        return (value.detach().MoveToOuterDisposeScope(), gradient.MoveToOuterDisposeScope());
    }

    private static string Describe(Tensor tensor) => $"{tensor.dtype}[{string.Join(", ", tensor.shape)}]";
}
