using System.Text.Json;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments;

/// <summary>What a trial's gradient is worth: against the unrolled gradient by group and on every step, and that one against finite differences. In float64, on a few samples of the spec's own sampler.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.GradientProofReport")]
public sealed record GradientProofReport
{
    /// <summary>Name of the gradient method.</summary>
    [Id(0)] public required string Method { get; init; }

    /// <summary>Whether the method claims to be exact for the discretised sampler.</summary>
    [Id(1)] public required bool Exact { get; init; }

    /// <summary>Whether the proof holds.</summary>
    [Id(2)] public required bool Passed { get; init; }

    /// <summary>What does not hold, in words.</summary>
    [Id(3)] public required IReadOnlyList<string> Findings { get; init; }

    /// <summary>Name of the sampler.</summary>
    [Id(4)] public required string Sampler { get; init; }

    /// <summary>Steps of the sampler.</summary>
    [Id(5)] public required int Steps { get; init; }

    /// <summary>Samples that the proof was made on.</summary>
    [Id(6)] public required int Samples { get; init; }

    /// <summary>x_T, then what is trained, by group.</summary>
    [Id(7)] public required IReadOnlyList<ProofAgreement> Groups { get; init; }

    /// <summary>∂L/∂x at each point of the grid, from x_T to x_0.</summary>
    [Id(8)] public required IReadOnlyList<ProofAgreement> States { get; init; }

    /// <summary>Finite differences.</summary>
    [Id(9)] public required IReadOnlyList<ProofDifference> Differences { get; init; }

    /// <summary>Evaluations of the sampler.</summary>
    [Id(10)] public required int ForwardNfe { get; init; }

    /// <summary>Evaluations of the way back.</summary>
    [Id(11)] public required int BackwardNfe { get; init; }

    /// <summary>Vector–Jacobian products.</summary>
    [Id(12)] public required int Vjps { get; init; }

    /// <summary>Evaluations that the finite differences cost.</summary>
    [Id(13)] public required int DifferenceNfe { get; init; }

    /// <summary>Whether it is an estimate for training (alignprop, refl, adjoint-matching): of one draw, measured against the unrolled gradient and not held to it.</summary>
    [Id(20)] public bool IsEstimate { get; init; }

    /// <summary>The worst of everything that is judged, or measured of an estimate, in one line's worth.</summary>
    public GradientProofSummary Summary()
    {
        var judged = Exact || IsEstimate || Groups.Count == 1 ? Groups.Concat(States) : Groups.Skip(1);
        // NaN, where one of two gradients is zero, is the worst cosine there is.
        var worst = judged.MinBy(row => double.IsNaN(row.Cosine) ? double.NegativeInfinity : Exact ? -row.RelativeError : row.Cosine)!;
        return new(Method, Exact, Passed, worst.Cosine, worst.NormRatio, worst.RelativeError, Findings.Count > 0 ? Findings[0] : null, IsEstimate);
    }

    /// <summary>UTF-8 JSON, with NaN by name.</summary>
    internal byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, Json);

    internal static GradientProofReport Parse(ReadOnlySpan<byte> json) => JsonSerializer.Deserialize<GradientProofReport>(json, Json) ?? throw new InvalidDataException("The proof of the gradient is null.");

    private static readonly JsonSerializerOptions Json = new(ExperimentSpecJson.Options)
    {
        WriteIndented = true,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
        UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Skip,
    };
}

/// <summary>How far the gradient agrees with the unrolled one.</summary>
/// <param name="Name">"x_T", a group of weights, or <c>x[n]</c>.</param>
/// <param name="Cosine">Cosine of the angle; NaN when exactly one of the two is zero.</param>
/// <param name="NormRatio">Norm over the unrolled gradient's norm.</param>
/// <param name="RelativeError">Norm of the difference over the unrolled gradient's norm.</param>
/// <param name="Rho">σ/α, for points of the grid.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ProofAgreement")]
public sealed record ProofAgreement([property: Id(0)] string Name, [property: Id(1)] double Cosine, [property: Id(2)] double NormRatio, [property: Id(3)] double RelativeError, [property: Id(4)] double? Rho = null);

/// <summary>The derivative of the loss along a direction, three ways.</summary>
/// <param name="Name">"x_T", a group of weights, or "all".</param>
/// <param name="FiniteDifference">By central differences.</param>
/// <param name="Unrolled">By the unrolled gradient.</param>
/// <param name="Configured">By the gradient under proof.</param>
/// <param name="Uncertainty">How far the finite difference can be trusted.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ProofDifference")]
public sealed record ProofDifference([property: Id(0)] string Name, [property: Id(1)] double FiniteDifference, [property: Id(2)] double Unrolled, [property: Id(3)] double Configured, [property: Id(4)] double Uncertainty);

/// <summary>The proof of a gradient in one line.</summary>
/// <param name="Method">Name of the gradient method.</param>
/// <param name="Exact">Whether it claims to be exact.</param>
/// <param name="Passed">Whether the proof holds.</param>
/// <param name="Cosine">Cosine to the unrolled gradient where it is worst.</param>
/// <param name="NormRatio">Norm ratio there.</param>
/// <param name="RelativeError">Relative error there.</param>
/// <param name="Finding">The first thing that does not hold.</param>
/// <param name="IsEstimate">Whether it is an estimate for training, measured and not judged.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.GradientProofSummary")]
public sealed record GradientProofSummary(
    [property: Id(0)] string Method, [property: Id(1)] bool Exact, [property: Id(2)] bool Passed, [property: Id(3)] double Cosine, [property: Id(4)] double NormRatio, [property: Id(5)] double RelativeError, [property: Id(6)] string? Finding, [property: Id(20)] bool IsEstimate = false);
