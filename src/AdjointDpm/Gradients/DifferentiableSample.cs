using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>A sample that is part of the caller's own graph: <c>loss.backward()</c> goes back through the sampler by a gradient method and adds to the grad of x_T and of every declared input.</summary>
/// <remarks>
/// <para>For code that has a training loop of its own. <see cref="Sampling.Differentiate(SampleRequest, Func{Tensor, Tensor}, GradientMethod?, CancellationToken)"/> gives the same bits and is simpler where the loss is a function of the sample alone.</para>
/// <para>Autograd calls back from native code, where an exception would end the process. What goes wrong on the way back is kept instead, and the gradients are NaN: use <see cref="Backward"/>, which throws it, or call <see cref="ThrowIfFailed"/> after <c>loss.backward()</c>.</para>
/// <para>One way back for each sample; second derivatives are refused. Inputs must not change between sampling and the way back. Owns the sample; disposing frees what the way back would need.</para>
/// </remarks>
public sealed class DifferentiableSample : IDisposable
{
    private readonly SampleWalk _walk;

    private DifferentiableSample(Tensor sample, SampleWalk walk) => (Sample, _walk) = (sample, walk);

    /// <summary>x_0, of the noise's shape and dtype, attached to the graph of the noise and of the declared inputs that require grad.</summary>
    public Tensor Sample { get; }

    /// <summary>What it has cost so far.</summary>
    public SolveStatistics Statistics => _walk.Statistics;

    /// <summary>What went wrong on the way back, if anything did.</summary>
    public Exception? Failure => _walk.Failure;

    /// <summary>Samples, and attaches the sample to the caller's graph.</summary>
    /// <param name="request">What to sample. The noise may be a result of the caller's own computation; declared inputs are leaves, as always.</param>
    /// <param name="method">How the way back is computed. Default: <see cref="GradientMethod.Discrete"/>.</param>
    /// <param name="behind">For declared inputs that are detached copies of results of the caller's own computation (a text encoder's output, say): that result, by the input's name. The gradient flows on into it. Others receive it in their grad, if they require grad.</param>
    /// <param name="cancellationToken">Looked at before every step of both ways.</param>
    /// <exception cref="ArgumentException">A name in <paramref name="behind"/> is not declared, or shapes or dtypes differ.</exception>
    /// <exception cref="UndeclaredInputException">The field depends on tensors that require grad and were neither declared nor frozen.</exception>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="NotSupportedException">The method cannot serve this sampler or grid; the message says which does.</exception>
    public static DifferentiableSample Draw(SampleRequest request, GradientMethod? method = null, IReadOnlyDictionary<string, Tensor>? behind = null, CancellationToken cancellationToken = default)
    {
        Sampling.Validate(request);
        var inputs = request.Field.Inputs.Select(input => Behind(input, behind)).ToArray();
        if (behind?.Keys.FirstOrDefault(name => request.Field.Inputs.All(input => input.Name != name)) is { } unknown)
            throw new ArgumentException($"No input named '{unknown}' is declared. Declared: {string.Join(", ", request.Field.Inputs.Select(input => input.Name))}.", nameof(behind));
        var walk = SampleWalk.Begin(request, method ?? GradientMethod.Discrete, cancellationToken);
        try
        {
            var attached = Node.apply([walk, request.Noise, .. inputs]);
            walk.ReleaseSample();
            return new(attached, walk);
        }
        catch
        {
            walk.Dispose();
            throw;
        }
    }

    /// <summary>Differentiates a loss as <c>loss.backward()</c> does, and throws what goes wrong on the way back through the sampler.</summary>
    /// <param name="loss">Scalar that depends on the sample.</param>
    public void Backward(Tensor loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        loss.backward();
        ThrowIfFailed();
    }

    /// <summary>Throws what went wrong on the way back, if anything did.</summary>
    public void ThrowIfFailed()
    {
        if (Failure is { } failure)
            throw new InvalidOperationException($"The way back through the sampler failed, and the gradients are NaN: {failure.Message}", failure);
    }

    /// <summary>Frees the sample and what the way back would need.</summary>
    public void Dispose()
    {
        Sample.Dispose();
        _walk.Dispose();
    }

    private static Tensor Behind(DeclaredInput input, IReadOnlyDictionary<string, Tensor>? behind)
    {
        if (behind is null || !behind.TryGetValue(input.Name, out var result))
            return input.Value;
        return result.dtype == input.Value.dtype && result.shape.AsSpan().SequenceEqual(input.Value.shape)
            ? result
            : throw new ArgumentException($"What is behind input '{input.Name}' is {result.dtype}[{string.Join(", ", result.shape)}], but the input is {input.Value.dtype}[{string.Join(", ", input.Value.shape)}]. Declare its detached copy.", nameof(behind));
    }

    // Arguments: the walk, x_T, the declared inputs in order. Refers to the walk only: a reference to the sample would keep its graph alive for ever.
    private sealed class Node : autograd.SingleTensorFunction<Node>
    {
        public override string Name => "sampler";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_data("walk", vars[0]);
            return ((SampleWalk)vars[0]).Sample;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            // The scope, and that gradients outlive the call, are what keeps the collector from freeing tensors that native code still reads.
            using var scope = NewDisposeScope();
            scope.Attach(grad_output);
            var gradients = ((SampleWalk)ctx.get_data("walk")!).Back(grad_output);
            return [null!, .. gradients];
        }
    }
}
