using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using AdjointDpm.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models;

/// <summary>Blocks of a network of which only the inputs are kept until the gradient comes back to them; then they are computed again.</summary>
/// <remarks>
/// Chen et al. (2016), with a block as a segment. The gradient has the bits of plain differentiation: a block is given its input once for each
/// place that reads it, so that the shares of all readers are added in the order in which autograd would add them.
/// Autograd calls back from native code, where an exception would end the process: it is kept, gradients become NaN, and <see cref="Vjp"/> throws it.
/// After a bare <c>backward()</c> nobody asks: the next evaluation on that thread throws it then, before NaN goes further.
/// </remarks>
internal static class Recomputed
{
    private static readonly Scalar NaN = double.NaN.ToScalar();

    // By the thread that runs forward and calls backward; on a GPU the way back itself is on another.
    private static readonly ConcurrentDictionary<int, Exception> Failures = new();

    [ThreadStatic]
    private static bool _on;

    // What the block before gave back: native code holds it now.
    [ThreadStatic]
    private static IReadOnlyList<Tensor>? _given;

    /// <summary>Whether blocks of the network that runs on this thread are to be recomputed.</summary>
    public static bool IsOn => _on && is_grad_enabled();

    /// <summary>Recomputes blocks on this thread until disposed.</summary>
    public static Switch Use(bool on)
    {
        var before = _on;
        _on = on;
        return new(before);
    }

    /// <summary>A block's result, whose graph is one node.</summary>
    /// <param name="block">Whose parameters take part.</param>
    /// <param name="x">The block's input.</param>
    /// <param name="shared">What it reads besides: time or context. Null for nothing.</param>
    /// <param name="uses">Places that read <paramref name="shared"/>.</param>
    /// <param name="adds">Whether the result is the input plus something, so that its cotangent is the sum's share as it is, memory layout included: later sums over it depend on that.</param>
    /// <param name="run">The block, given its input for its layers, for its sum, and what is shared for the next place that reads it.</param>
    /// <returns>The result, in the current dispose scope.</returns>
    /// <exception cref="NotSupportedException">The block has dropout and is in training mode.</exception>
    /// <exception cref="InvalidOperationException">A way back before this one failed, without anybody having been told.</exception>
    public static Tensor Of(nn.Module block, Tensor x, Tensor? shared, int uses, bool adds, Func<Tensor, Tensor, Func<Tensor>, Tensor> run)
    {
        if (!Failures.IsEmpty && Failures.TryRemove(Environment.CurrentManagedThreadId, out var failure))
            throw new InvalidOperationException($"An earlier backward() through a network with Checkpointing failed, and its gradients are NaN: {failure.Message} Throw them away, and differentiate by {nameof(Vjp)}, which throws such errors as they happen.", failure);
        Tensor[] parameters = [.. block.parameters().Where(p => p.requires_grad)];
        // Autograd goes back from the last reader to the first.
        Tensor[] inputs = shared is null ? [x, x] : [x, x, .. Enumerable.Repeat(shared, uses)];
        if (parameters.Length == 0 && !inputs.Any(i => i.requires_grad))
            return run(x, x, () => shared!);
        // Computed again it would draw another mask, and give the gradient of neither.
        if (block.training && block.modules().OfType<TorchSharp.Modules.Dropout>().Any(dropout => dropout.p > 0))
            throw new NotSupportedException($"{block.GetName()} drops values at random in training mode, which cannot be computed again on the way back. Call eval() on the network, or set its Checkpointing to false.");
        var call = new Call(run, adds, inputs.Length, parameters, Environment.CurrentManagedThreadId);
        var result = Node.apply([call, .. inputs, .. parameters]);
        call.ReleaseResult();
        return result;
    }

    /// <summary>Before a way back: forgets what an earlier one left.</summary>
    public static void Begin() => Failures.TryRemove(Environment.CurrentManagedThreadId, out _);

    /// <summary>After a way back: throws what went wrong in it as it was, such as a lack of memory, and frees what was handed over.</summary>
    public static void ThrowIfFailed()
    {
        Free();
        if (!Failures.IsEmpty && Failures.TryRemove(Environment.CurrentManagedThreadId, out var failure))
            ExceptionDispatchInfo.Throw(failure);
    }

    private static void Free()
    {
        foreach (var tensor in _given ?? [])
            tensor.Dispose();
        _given = null;
    }

    /// <summary>Puts back what held before.</summary>
    public readonly struct Switch(bool before) : IDisposable
    {
        public void Dispose() => _on = before;
    }

    /// <summary>One block in one evaluation. Holds no tensor of the graph but the parameters, which are leaves.</summary>
    private sealed class Call(Func<Tensor, Tensor, Func<Tensor>, Tensor> run, bool adds, int inputs, Tensor[] parameters, int thread)
    {
        private Tensor? _result;

        private (long[] Shape, ScalarType Dtype, Device Device)[] _kinds = [];

        public int Inputs => inputs;

        /// <summary>Whether the gradient has passed: what was kept for it is gone.</summary>
        public bool IsSpent { get; set; }

        public Tensor Forward(List<Tensor> all)
        {
            _kinds = [.. all.Select(t => (t.shape, t.dtype, t.device))];
            var (around, x, shared) = (all[0], all[1], all.Count > 2 ? all[2] : null);
            using var frozen = no_grad();
            using var off = Use(false);
            _result = run(x, around, () => shared!);
            return _result;
        }

        /// <summary>The graph has a handle of its own.</summary>
        public void ReleaseResult()
        {
            _result?.Dispose();
            _result = null;
        }

        /// <summary>Gradients of the inputs, then of the parameters; null where none is wanted.</summary>
        public Tensor?[] Backward(List<Tensor> saved, List<bool> wanted, Tensor cotangent)
        {
            try
            {
                if (IsSpent)
                    throw new InvalidOperationException("With Checkpointing a graph is gone back through once. Evaluate the network again, or set it to false.");
                if (is_grad_enabled())
                    throw new NotSupportedException("Second derivatives of a network are not offered with Checkpointing. Set it to false.");
                return Again(saved, wanted, cotangent);
            }
            catch (Exception e)
            {
                Failures[thread] = e;
                // Never null where a gradient is wanted: the binding cannot hand that on to the block before.
                return [.. _kinds.Select((k, i) => wanted[i] ? empty(k.Shape, k.Dtype, k.Device).fill_(NaN).DetachFromDisposeScope() : null), .. parameters.Select(p => empty_like(p).fill_(NaN).DetachFromDisposeScope())];
            }
        }

        private Tensor?[] Again(List<Tensor> saved, List<bool> wanted, Tensor cotangent)
        {
            using var scope = NewDisposeScope();
            // Parameters collect the gradients of the whole way back in their grad: it is set aside meanwhile.
            var before = parameters.Select(p => p.grad?.DetachFromDisposeScope()).ToArray();
            try
            {
                foreach (var parameter in parameters)
                    parameter.grad = null;
                Tensor[] leaves = [.. saved.Select((s, i) => s.detach().requires_grad_(wanted[i] && !(adds && i == 0)))];
                using (enable_grad())
                using (Use(false))
                {
                    // Of what is shared the last reader's handle comes first.
                    var next = leaves.Length;
                    var y = run(leaves[1], leaves[0], () => leaves[--next]);
                    autograd.backward([y], [cotangent], inputs: [.. leaves.Where(l => l.requires_grad), .. parameters]);
                    GC.KeepAlive(y);
                    GC.KeepAlive(leaves);
                }

                var gradients = leaves.Concat(parameters).Select(t => t.requires_grad ? t.grad?.detach().DetachFromDisposeScope() : null).ToArray();
                if (adds && wanted[0])
                    gradients[0] = cotangent.alias().DetachFromDisposeScope();
                return gradients;
            }
            finally
            {
                foreach (var (parameter, grad) in parameters.Zip(before))
                {
                    parameter.grad = grad;
                    grad?.Dispose();
                }
            }
        }
    }

    // Arguments: the call; the input for the sum, the input for the layers, what is shared for each reader from the last on; the parameters.
    private sealed class Node : autograd.SingleTensorFunction<Node>
    {
        public override string Name => "recomputed";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var call = (Call)vars[0];
            List<Tensor> inputs = [.. vars.Skip(1).Take(call.Inputs).Cast<Tensor>()];
            ctx.save_data("call", call);
            ctx.save_data("wanted", inputs.Select(i => i.requires_grad).ToList());
            ctx.save_for_backward(inputs);
            return call.Forward(inputs);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            Free();
            // The scope, and that gradients outlive the call, are what keeps the collector from freeing tensors that native code still reads.
            using var scope = NewDisposeScope();
            scope.Attach(grad_output);
            var call = (Call)ctx.get_data("call")!;
            var saved = call.IsSpent ? [] : ctx.get_saved_variables();
            foreach (var tensor in saved)
                scope.Attach(tensor);
            var gradients = call.Backward(saved, (List<bool>)ctx.get_data("wanted")!, grad_output);
            // Others keep what they saved until the whole graph is gone.
            call.IsSpent = true;
            ctx.Dispose();
            // Blocks in this block have left theirs.
            Free();
            _given = [.. gradients.OfType<Tensor>()];
            return [null!, .. gradients.Select(g => g!)];
        }
    }
}
