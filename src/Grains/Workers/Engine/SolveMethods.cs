using AdjointDpm.Gradients;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The library's samplers, grids and gradients by the names that specs have for them.</summary>
internal static class SolveMethods
{
    private const double DefaultTolerance = 1e-4;

    public static Sampler Sampler(SampleSpec sample) => sample.Solver switch
    {
        SolverName.Bosh3 => Adaptive(ButcherTableau.Bosh3, sample),
        SolverName.Dopri5 => Adaptive(ButcherTableau.Dopri5, sample),
        SolverName.Tsit5 => Adaptive(ButcherTableau.Tsit5, sample),
        SolverName.Dopri8 => Adaptive(ButcherTableau.Dopri8, sample),
        SolverName.ReversibleMidpoint => new ReversibleSampler(ButcherTableau.Midpoint),
        SolverName.ReversibleHeun => new ReversibleSampler(ButcherTableau.Heun),
        SolverName.ReversibleRk4 => new ReversibleSampler(ButcherTableau.Rk4),
        SolverName.Ddim when sample.Eta is { } eta => Samplers.Sampler.DdimWithNoise(eta),
        var name => Samplers.Sampler.Named(ExperimentSpecJson.NameOf(name)),
    };

    public static TimeGrid Grid(SampleSpec sample, NoiseSchedule schedule) => TimeGrid.Create(Enum.Parse<GridKind>(sample.Grid.ToString()), schedule, sample.Steps);

    public static GradientMethod Gradient(GradientSpec gradient) => gradient.Method switch
    {
        GradientName.StoreAll => GradientMethod.StoreAll,
        GradientName.Continuous => GradientMethod.Continuous(),
        GradientName.Checkpointed => GradientMethod.Checkpointed(gradient.Slots!.Value),
        GradientName.Offloaded => GradientMethod.Offloaded,
        GradientName.Truncated => GradientMethod.Truncated(gradient.Last!.Value),
        GradientName.LowVariance => GradientMethod.LowVariance(gradient.Noisings ?? 2),
        GradientName.Reversible => GradientMethod.Reversible,
        GradientName.AdjointDeis => GradientMethod.AdjointDeis(gradient.Order ?? 1),
        // Estimators of training are made of the discrete adjoint's products: where a method of a whole solve is wanted, it is that.
        GradientName.Discrete or GradientName.AlignProp or GradientName.ReFL or GradientName.AdjointMatching => GradientMethod.Discrete,
        GradientName.Auto => throw new NotSupportedException("gradient.method is auto, which becomes a method when 'adpm' submits the experiment. Submit it with adpm, or name a method: 'adpm plan FILE' tells which fits."),
        var other => throw new NotSupportedException($"gradient.method {other} is not known to this worker. Update it."),
    };

    /// <summary>What an estimator of training is called; null for a method of a whole solve.</summary>
    public static string? Estimator(GradientSpec gradient) => gradient.Method is GradientName.AlignProp or GradientName.ReFL or GradientName.AdjointMatching ? ExperimentSpecJson.NameOf(gradient.Method) : null;

    private static AdaptiveSampler Adaptive(ButcherTableau tableau, SampleSpec sample) =>
        new(tableau, new StepControl { Relative = sample.Rtol ?? DefaultTolerance, Absolute = sample.Atol ?? DefaultTolerance });
}

/// <summary>Proofs of gradients in the form that travels.</summary>
internal static class ProofReports
{
    public static GradientProofReport Of(GradientProof proof, SampleRequest request, int samples) => new()
    {
        Method = proof.Method,
        Exact = proof.Exact,
        Passed = proof.Passed,
        Findings = [.. proof.Findings],
        Sampler = request.Sampler.Name,
        Steps = proof.IsEstimate ? request.Grid.Steps : proof.Statistics.Steps,
        IsEstimate = proof.IsEstimate,
        Samples = samples,
        Groups = [.. proof.Groups.Select(group => Row(group))],
        States = [.. proof.States.Select((state, n) => Row(state, proof.Rhos[n]))],
        Differences = [.. proof.Differences.Select(d => new ProofDifference(d.Name, d.FiniteDifference, d.Unrolled, d.Configured, d.Uncertainty))],
        ForwardNfe = proof.Statistics.ForwardNfe,
        BackwardNfe = proof.Statistics.BackwardNfe,
        Vjps = proof.Statistics.Vjps,
        DifferenceNfe = proof.DifferenceNfe,
    };

    private static ProofAgreement Row(GradientAgreement agreement, double? rho = null) => new(agreement.Name, agreement.Cosine, agreement.NormRatio, agreement.RelativeError, rho);
}
