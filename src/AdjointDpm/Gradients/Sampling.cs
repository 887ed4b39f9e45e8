using AdjointDpm.Native;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Entry points: sample, and differentiate a loss on the sample. Synchronous; one solve uses one thread.</summary>
public static class Sampling
{
    /// <summary>Samples without gradients.</summary>
    /// <param name="request">What to sample.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>The sample, owned by the caller.</returns>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static SampleResult Sample(SampleRequest request, CancellationToken cancellationToken = default)
    {
        Validate(request);
        return Run(guarded: false) ?? Run(guarded: true) ?? throw new NonFiniteException("sample");

        SampleResult? Run(bool guarded)
        {
            using var scope = NewDisposeScope();
            using var grad = no_grad();
            var solve = new Solve(request, guarded, cancellationToken);
            var sample = solve.Timed(SolvePhase.Forward, () => solve.AtEnd(solve.Search(remember: false) ?? solve.Walk(solve.Start(request.Noise), solve.Evaluate).Y));
            return Solve.IsFinite(sample) ? new(sample.MoveToOuterDisposeScope(), solve.Request.Grid, solve.Statistics()) : null;
        }
    }

    /// <summary>Samples, evaluates a loss on the sample, and carries its gradient back to the noise and every declared input.</summary>
    /// <param name="request">What to sample.</param>
    /// <param name="loss">Scalar loss of x_0, differentiable; may decode first. Evaluated once, in grad mode.</param>
    /// <param name="method">How the gradient is computed. Default: <see cref="GradientMethod.Discrete"/>.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>Loss, sample and gradients, owned by the caller. None shares storage with anything else.</returns>
    /// <exception cref="UndeclaredInputException">The field depends on tensors that require grad and were neither declared nor frozen.</exception>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="NotSupportedException">The method cannot serve this sampler or grid; the message says which does.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static SampleGradients Differentiate(SampleRequest request, Func<Tensor, Tensor> loss, GradientMethod? method = null, CancellationToken cancellationToken = default)
    {
        Validate(request);
        ArgumentNullException.ThrowIfNull(loss);
        method ??= GradientMethod.Discrete;
        var result = Run(guarded: false, out var what);
        if (result is not null)
            return result;
        // Something is not finite. Once more, looking after every evaluation: this throws at the first place.
        Run(guarded: true, out _)?.Dispose();
        throw new NonFiniteException(what!);

        SampleGradients? Run(bool guarded, out string? nonFinite)
        {
            using var scope = NewDisposeScope();
            using var grad = no_grad();
            using var leaves = new BorrowedLeaves(request.Field);
            var solve = new Solve(request, guarded, cancellationToken) { Leaves = leaves };
            solve.Timed(SolvePhase.Forward, () => solve.FindSteps(method.WalksWithoutGraph));
            var sweep = method.Begin(solve);
            var sample = solve.Timed(SolvePhase.Forward, sweep.Forward);
            nonFinite = "sample";
            if (!Solve.IsFinite(sample))
                return null;
            leaves.Arm();
            var (value, gradient) = solve.Timed(null, () => LossGradient(sample, loss, leaves));
            var noise = solve.Timed(SolvePhase.Backward, () => sweep.Backward(gradient));
            nonFinite = !Solve.IsFinite(noise) ? "gradient of the noise" : leaves.FirstNonFinite() is { } name ? $"gradient of input '{name}'" : null;
            return nonFinite is null ? Collect(value, sample, noise, solve, leaves) : null;
        }
    }

    private static (double Value, Tensor Gradient) LossGradient(Tensor sample, Func<Tensor, Tensor> loss, BorrowedLeaves leaves)
    {
        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        var leaf = sample.detach().requires_grad_();
        var value = loss(leaf);
        if (value.numel() != 1)
            throw new ArgumentException($"The loss must be a scalar, but has shape [{string.Join(", ", value.shape)}]. Reduce it, for instance with mean().", nameof(loss));
        if (!value.requires_grad)
            throw new ArgumentException("The loss does not depend on the sample: it was detached, or computed without gradients.", nameof(loss));
        var number = value.detach().to(ScalarType.Float64).ToDouble();
        if (!double.IsFinite(number))
            throw new NonFiniteException("loss");
        Vjp.Accumulate(value, ones_like(value), [leaf, .. leaves.Inputs]);
        var gradient = leaf.grad ?? zeros_like(leaf);
        if (!Solve.IsFinite(gradient))
            throw new NonFiniteException("gradient of the loss with respect to the sample");
        return (number, gradient.MoveToOuterDisposeScope());
    }

    private static SampleGradients Collect(double loss, Tensor sample, Tensor noise, Solve solve, BorrowedLeaves leaves)
    {
        var inputs = new OrderedDictionary<string, Tensor>();
        var unreached = new List<string>();
        foreach (var (name, input, gradient) in leaves.Take())
        {
            if (gradient is null)
                unreached.Add(name);
            inputs.Add(name, (gradient ?? zeros_like(input)).detach().MoveToOuterDisposeScope());
        }

        return new(loss, sample.detach().MoveToOuterDisposeScope(), noise.detach().MoveToOuterDisposeScope(), inputs, unreached, solve.Request.Grid, solve.Statistics());
    }

    private static void Validate(SampleRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        NativeTorch.EnsureLoaded();
        if (request.Noise.dtype is not (ScalarType.Float32 or ScalarType.Float64))
            throw new ArgumentException($"The noise has dtype {request.Noise.dtype}; the state of a sampler is float32 or float64. Convert the noise, and cast to the network's dtype inside the predictor.", nameof(request));
    }
}
