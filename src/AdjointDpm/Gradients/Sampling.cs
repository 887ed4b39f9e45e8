using AdjointDpm.Native;
using AdjointDpm.Samplers;
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
            using var solve = new Solve(request, guarded, cancellationToken);
            var sample = solve.Timed(SolvePhase.Forward, () => solve.AtEnd(solve.Search(remember: false) ?? solve.Walk(solve.Start(request.Noise), solve.Evaluate).Y));
            return Solve.IsFinite(sample) ? new(sample.MoveToOuterDisposeScope(), solve.Request.Grid, solve.Statistics()) : null;
        }
    }

    /// <summary>Samples without gradients of its own, steered towards a small loss by gradients of looks ahead (SAG).</summary>
    /// <param name="request">What to sample, with any sampler of fixed steps. Declared inputs are held constant.</param>
    /// <param name="guidance">Loss, steps ahead, strength, and which steps.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>The sample, owned by the caller; the cost includes the looks ahead, as forward and backward evaluations and products.</returns>
    /// <exception cref="ArgumentException">The guidance does not fit the grid.</exception>
    /// <exception cref="NotSupportedException">The sampler chooses its own steps or keeps two states, or the field differs by step.</exception>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static SampleResult Sample(SampleRequest request, LookAheadGuidance guidance, CancellationToken cancellationToken = default)
    {
        Validate(request);
        ArgumentNullException.ThrowIfNull(guidance);
        guidance.Validate(request.Grid.Steps);
        if (request.Sampler is AdaptiveSampler or ReversibleSampler)
            throw new NotSupportedException($"Sampler '{request.Sampler.Name}' cannot be guided by looking ahead: {(request.Sampler is AdaptiveSampler ? "its steps are found as it runs" : "its state is two")}. Choose one of fixed steps and one state.");
        if (request.Field.DiffersByStep)
            throw new NotSupportedException("The field is told its step, but a look ahead takes other steps than the sampler. Use a field of x and time alone.");
        return Run(guarded: false) ?? Run(guarded: true) ?? throw new NonFiniteException("sample");

        SampleResult? Run(bool guarded)
        {
            using var scope = NewDisposeScope();
            using var grad = no_grad();
            var (sample, statistics) = new LookAhead(request, guidance, guarded, cancellationToken).Run();
            return Solve.IsFinite(sample) ? new(sample.MoveToOuterDisposeScope(), request.Grid, statistics) : null;
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
        ArgumentNullException.ThrowIfNull(loss);
        return Differentiate(request, new Objective { OnSample = loss }, method, cancellationToken);
    }

    /// <summary>The same for losses on states on the way to the sample too, and with the gradient of every state if asked for.</summary>
    /// <param name="request">What to sample.</param>
    /// <param name="objective">Losses, which are added up. Each is evaluated once, in grad mode.</param>
    /// <param name="method">How the gradient is computed. Default: <see cref="GradientMethod.Discrete"/>.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>Loss, sample and gradients, owned by the caller. None shares storage with anything else.</returns>
    /// <exception cref="UndeclaredInputException">The field depends on tensors that require grad and were neither declared nor frozen.</exception>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="NotSupportedException">The method cannot serve this sampler, grid or objective; the message says which does.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static SampleGradients Differentiate(SampleRequest request, Objective objective, GradientMethod? method = null, CancellationToken cancellationToken = default)
    {
        Validate(request);
        ArgumentNullException.ThrowIfNull(objective);
        objective.Validate(request);
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
            using var solve = new Solve(request, guarded, cancellationToken) { Leaves = leaves, Objective = objective };
            // The unrolled sweep is one call, which cannot say where it went wrong; the discrete adjoint has the same gradient step by step.
            var used = guarded && method == GradientMethod.StoreAll ? GradientMethod.Discrete : method;
            solve.Timed(SolvePhase.Forward, () => solve.FindSteps(used.WalksWithoutGraph));
            var sweep = used.Begin(solve);
            var sample = solve.Timed(SolvePhase.Forward, sweep.Forward);
            nonFinite = "sample";
            if (!Solve.IsFinite(sample))
                return null;
            leaves.Arm();
            var gradient = solve.Timed(null, () => objective.OnSample is { } loss ? solve.LossGradient(loss, sample, sweep.SampleWeight) : zeros_like(sample));
            solve.KeepStateGradient(solve.RequestedGrid.Steps, gradient);
            var noise = solve.Timed(SolvePhase.Backward, () => sweep.Backward(gradient));
            nonFinite = !Solve.IsFinite(noise) ? "gradient of the noise" : leaves.FirstNonFinite() is { } name ? $"gradient of input '{name}'" : null;
            return nonFinite is null ? Collect(sample, noise, solve, leaves) : null;
        }
    }

    /// <summary>The request with the steps that an adaptive sampler accepts for it, held: of fixed steps, as gradients are. Others as they are.</summary>
    internal static SampleRequest HoldSteps(SampleRequest request, CancellationToken cancellationToken)
    {
        if (request.Sampler is not AdaptiveSampler)
            return request;
        Validate(request);
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        using var solve = new Solve(request, guarded: true, cancellationToken);
        solve.Search(remember: false);
        return solve.Request;
    }

    private static SampleGradients Collect(Tensor sample, Tensor noise, Solve solve, BorrowedLeaves leaves)
    {
        var (inputs, unreached) = leaves.Collect();
        return new(solve.Loss, sample.detach().MoveToOuterDisposeScope(), noise.detach().MoveToOuterDisposeScope(), inputs, solve.TakeStateGradients(), unreached, solve.Request.Grid, solve.Statistics());
    }

    /// <summary>Checks a request, and that libtorch is there.</summary>
    internal static void Validate(SampleRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        NativeTorch.EnsureLoaded();
        if (request.Controls.Count > request.Grid.Steps)
            throw new ArgumentException($"The request has {request.Controls.Count} controls for {request.Grid.Steps} steps; at most one belongs to each.", nameof(request));
        if (request.Noise.dtype is not (ScalarType.Float32 or ScalarType.Float64))
            throw new ArgumentException($"The noise has dtype {request.Noise.dtype}; the state of a sampler is float32 or float64. Convert the noise, and cast to the network's dtype inside the predictor.", nameof(request));
    }
}
