using System.Collections.Immutable;
using AdjointDpm.Samplers;

namespace AdjointDpm.Gradients;

/// <summary>How a gradient is to be proven.</summary>
public sealed record GradientProofOptions
{
    /// <summary>Gives the group of a declared input by its name; the inputs of a group are compared as one vector. Default: the name up to its second dot, so that a network's weights come module by module.</summary>
    public Func<string, string> Group { get; init; } = FirstTwoParts;

    /// <summary>Whether finite differences are taken for x_T and each group apart, rather than once along all of them. Default: true.</summary>
    public bool DifferenceByGroup { get; init; } = true;

    /// <summary>Relative error against the unrolled gradient that an exact method may have, in float64. Default: 1e-8, which leaves room for sums of many terms.</summary>
    public double Exactness { get; init; } = 1e-8;

    /// <summary>Cosine to the unrolled gradient below which an approximation fails. Default: 0.99.</summary>
    public double MinCosine { get; init; } = 0.99;

    /// <summary>Distance of the norm ratio from 1 above which an approximation fails. Default: 0.1.</summary>
    public double MaxNormError { get; init; } = 0.1;

    /// <summary>Relative error that finite differences may have against the unrolled gradient: it bounds what they can show, for losses with kinks. Default: 1e-4.</summary>
    public double DifferenceTolerance { get; init; } = 1e-4;

    /// <summary>Stream of the random directions. Default: seed 0.</summary>
    public NoiseKey Key { get; init; }

    private static string FirstTwoParts(string name)
    {
        var first = name.IndexOf('.', StringComparison.Ordinal);
        var second = first < 0 ? -1 : name.IndexOf('.', first + 1);
        return second < 0 ? name : name[..second];
    }
}

/// <summary>The derivative of the loss along a direction, three ways.</summary>
/// <param name="Name">"x_T", the group's name, or "all".</param>
/// <param name="FiniteDifference">By central differences of the loss.</param>
/// <param name="Unrolled">Inner product of the direction with the unrolled gradient.</param>
/// <param name="Configured">Inner product with the gradient under proof.</param>
/// <param name="Step">Half width of the difference that was taken, in units of the direction.</param>
/// <param name="Uncertainty">Distance from the difference with the next larger step: how far it can be trusted.</param>
public sealed record DirectionalDerivative(string Name, double FiniteDifference, double Unrolled, double Configured, double Step, double Uncertainty)
{
    /// <summary>|finite difference − unrolled| over |unrolled|; 0 when both are 0.</summary>
    public double RelativeError => FiniteDifference == Unrolled ? 0 : Math.Abs(FiniteDifference - Unrolled) / Math.Abs(Unrolled);

    /// <summary>Whether the finite difference, as far as it can be trusted, is what the unrolled gradient says.</summary>
    internal bool Holds(double tolerance) => Math.Abs(FiniteDifference - Unrolled) <= tolerance * Math.Abs(Unrolled) + Uncertainty;
}

/// <summary>A gradient by whatever means. Its tensors belong to whoever made it.</summary>
/// <param name="Noise">∂L/∂x_T; null where it has none.</param>
/// <param name="Inputs">∂L/∂input by name, of all declared inputs.</param>
/// <param name="Statistics">What it cost.</param>
public sealed record GradientEstimate(TorchSharp.torch.Tensor? Noise, IReadOnlyDictionary<string, TorchSharp.torch.Tensor> Inputs, SolveStatistics Statistics)
{
    internal static GradientEstimate Of(SampleGradients solved) => new(solved.Noise, solved.Inputs, solved.Statistics);
}

/// <summary>What a gradient is worth: compared with the unrolled one, in size and direction, by group and on every step of the way, and that one with finite differences.</summary>
/// <remarks>An exact method must meet the unrolled gradient everywhere. An approximation is judged by what is trained, the declared inputs, or by x_T when nothing is declared; the rest is told.</remarks>
public sealed record GradientProof
{
    /// <summary>Name of the direction along x_T and all inputs together.</summary>
    public const string AllName = "all";

    /// <summary>Name of the method under proof.</summary>
    public required string Method { get; init; }

    /// <summary>Whether the method claims the gradient of the discretised sampler itself: <see cref="GradientMethod.IsExact"/>.</summary>
    public required bool Exact { get; init; }

    /// <summary>Whether it is an estimate for training that claims no such thing (<see cref="Measure"/>): what it is worth is told, and not judged.</summary>
    public bool IsEstimate { get; init; }

    /// <summary>Agreement of x_T, then of each group in the order of declaration; without x_T where an estimate has no gradient of it.</summary>
    public required ImmutableArray<GradientAgreement> Groups { get; init; }

    /// <summary>Agreement of ∂L/∂x at each point of the grid, from x_T to x_0, named <c>x[n]</c>; empty for an estimate.</summary>
    public required ImmutableArray<GradientAgreement> States { get; init; }

    /// <summary>ρ = σ/α at each point of <see cref="States"/>.</summary>
    public required ImmutableArray<double> Rhos { get; init; }

    /// <summary>Finite differences against the unrolled gradient.</summary>
    public required ImmutableArray<DirectionalDerivative> Differences { get; init; }

    /// <summary>What the gradient under proof cost.</summary>
    public required SolveStatistics Statistics { get; init; }

    /// <summary>Evaluations of the network that the finite differences cost.</summary>
    public required int DifferenceNfe { get; init; }

    /// <summary>What does not hold, in words, each with its number; empty when the proof holds.</summary>
    public required ImmutableArray<string> Findings { get; init; }

    /// <summary>Whether the gradient is what its method claims, and the unrolled one is what finite differences say.</summary>
    public bool Passed => Findings.IsEmpty;

    /// <summary>Proves the gradient of a request. In float64; in float32 the tolerances must be set for its rounding.</summary>
    /// <param name="request">What to sample; a small batch, since the unrolled gradient holds the activations of every evaluation.</param>
    /// <param name="loss">Scalar loss of x_0.</param>
    /// <param name="method">Method under proof. Default: <see cref="GradientMethod.Discrete"/>.</param>
    /// <param name="options">How. Default: all defaults.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <exception cref="NotSupportedException">The method cannot serve this sampler or grid.</exception>
    public static GradientProof Run(SampleRequest request, Func<TorchSharp.torch.Tensor, TorchSharp.torch.Tensor> loss, GradientMethod? method = null, GradientProofOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(loss);
        method ??= GradientMethod.Discrete;
        options ??= new();
        var objective = new Objective { OnSample = loss, KeepStateGradients = true };
        using var configured = Sampling.Differentiate(request, objective, method, cancellationToken);
        using var unrolled = Sampling.Differentiate(request, objective, GradientMethod.StoreAll, cancellationToken);
        var proof = Compare(request, loss, method.Name, GradientEstimate.Of(configured), unrolled, options, cancellationToken);
        var states = configured.States.Zip(unrolled.States).Select((pair, n) => GradientCheck.Compare($"x[{n}]", pair.First, pair.Second)).ToImmutableArray();
        return proof with
        {
            Exact = method.IsExact,
            States = states,
            Rhos = [.. request.Grid.Points.Select(point => point.Rho)],
            Findings = [.. method.IsExact ? Inexact(proof.Groups.Concat(states), options) : Astray(proof.Groups, options), .. proof.Findings],
        };
    }

    /// <summary>Measures an estimate for training, such as a truncated or a matched gradient, against the unrolled gradient. It does not claim to be that and is not held to it: only what finite differences say against the unrolled gradient is a finding.</summary>
    /// <param name="request">What was sampled; a small batch, since the unrolled gradient holds the activations of every evaluation.</param>
    /// <param name="loss">Scalar loss of x_0.</param>
    /// <param name="name">What the estimate is called.</param>
    /// <param name="estimate">The estimate, of this request.</param>
    /// <param name="options">How. Default: all defaults.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <exception cref="ArgumentException">It is a gradient of nothing: it has none of x_T, and no inputs are declared.</exception>
    public static GradientProof Measure(SampleRequest request, Func<TorchSharp.torch.Tensor, TorchSharp.torch.Tensor> loss, string name, GradientEstimate estimate, GradientProofOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(loss);
        ArgumentNullException.ThrowIfNull(estimate);
        if (estimate.Noise is null && request.Field.Inputs.IsEmpty)
            throw new ArgumentException("The estimate has no gradient of x_T, and the request declares no inputs: there is nothing to compare.", nameof(estimate));
        using var unrolled = Sampling.Differentiate(request, loss, GradientMethod.StoreAll, cancellationToken);
        return Compare(request, loss, name, estimate, unrolled, options ?? new(), cancellationToken) with { IsEstimate = true };
    }

    /// <summary>Agreement by group and finite differences; what these say against the unrolled gradient is found.</summary>
    private static GradientProof Compare(SampleRequest request, Func<TorchSharp.torch.Tensor, TorchSharp.torch.Tensor> loss, string name, GradientEstimate configured, SampleGradients unrolled, GradientProofOptions options, CancellationToken cancellationToken)
    {
        var reference = GradientEstimate.Of(unrolled);
        var parts = GradientParts.Of(request, options.Group).Skip(configured.Noise is null ? 1 : 0).ToList();
        var directions = new DifferenceDirections(Sampling.HoldSteps(request, cancellationToken), loss, options.Key, options.DifferenceTolerance, cancellationToken);
        var differences = (options.DifferenceByGroup ? parts : [GradientParts.All(parts)]).Select(part => directions.Along(part, configured, reference)).ToImmutableArray();
        return new()
        {
            Method = name,
            Exact = false,
            Groups = [.. parts.Select(part => part.Compare(configured, reference))],
            States = [],
            Rhos = [],
            Differences = differences,
            Statistics = configured.Statistics,
            DifferenceNfe = directions.Nfe,
            Findings = [.. Refuted(differences, options)],
        };
    }

    private static IEnumerable<string> Inexact(IEnumerable<GradientAgreement> all, GradientProofOptions options) =>
        all.Where(a => !(a.RelativeError <= options.Exactness)).Select(a => FormattableString.Invariant($"{a.Name}: relative error {a.RelativeError:e1} against the unrolled gradient, above {options.Exactness:e1} (cosine {a.Cosine:f4}, norm ratio {a.NormRatio:g3})."));

    private static IEnumerable<string> Astray(ImmutableArray<GradientAgreement> groups, GradientProofOptions options) =>
        (groups.Length > 1 ? groups.Skip(1) : groups)
            .Where(a => !(a.Cosine >= options.MinCosine && Math.Abs(a.NormRatio - 1) <= options.MaxNormError))
            .Select(a => FormattableString.Invariant($"{a.Name}: cosine {a.Cosine:f4} and norm ratio {a.NormRatio:g3} to the unrolled gradient; at least {options.MinCosine:g4} and {1 - options.MaxNormError:g3} to {1 + options.MaxNormError:g3} are asked for."));

    private static IEnumerable<string> Refuted(ImmutableArray<DirectionalDerivative> differences, GradientProofOptions options) =>
        differences.Where(d => !d.Holds(options.DifferenceTolerance))
            .Select(d => FormattableString.Invariant($"{d.Name}: the unrolled gradient says {d.Unrolled:g6} along a direction, finite differences say {d.FiniteDifference:g6}. Something that the loss depends on is not differentiated, or is not deterministic."));
}
