using AdjointDpm.Gradients;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What came of differentiating a batch, by whatever estimator.</summary>
/// <param name="Sample">The samples that the loss saw.</param>
/// <param name="Noise">Gradient of x_T; null when the estimator has none.</param>
/// <param name="Inputs">Gradients of the declared inputs.</param>
/// <param name="Statistics">What it cost.</param>
/// <param name="Owner">Owns the tensors.</param>
internal sealed record ShardSolve(Tensor Sample, Tensor? Noise, IReadOnlyDictionary<string, Tensor> Inputs, SolveStatistics Statistics, IDisposable Owner) : IDisposable
{
    /// <summary>Norm of ∂L/∂x at each point of the grid; null where the estimator does not go over them all.</summary>
    public double[]? AdjointNorms { get; init; }

    public void Dispose() => Owner.Dispose();

    /// <summary>The gradient that a spec asks for.</summary>
    /// <param name="spec">Spec.</param>
    /// <param name="request">Solve with what is trained declared.</param>
    /// <param name="frozen">The untrained model's field, for adjoint matching.</param>
    /// <param name="loss">Loss.</param>
    /// <param name="cancellationToken">Looked at between steps.</param>
    public static ShardSolve Of(ExperimentSpec spec, SampleRequest request, Func<NoiseField> frozen, TrialLoss loss, CancellationToken cancellationToken)
    {
        var (gradient, steps) = (spec.Gradient, request.Grid.Steps);
        switch (gradient.Method)
        {
            case GradientName.AlignProp:
                // Prabhudesai et al. (2023): truncated back-propagation of a random length.
                return Of(Sampling.Differentiate(request, loss.Mean, GradientMethod.Truncated(1 + Draw(request.Key, Math.Min(gradient.Last ?? steps, steps))), cancellationToken));
            case GradientName.ReFL:
                return Direct(request, loss, steps - 1 - Draw(request.Key, Math.Min(gradient.Last ?? (steps + 3) / 4, steps)), cancellationToken);
            case GradientName.AdjointMatching:
                return Matched(gradient, request, frozen(), loss, cancellationToken);
            default:
                using (var norms = new AdjointNorms(request))
                {
                    var solved = Sampling.Differentiate(request, new Objective { OnSample = loss.Mean, OnStateGradient = norms.Take }, SolveMethods.Gradient(gradient), cancellationToken);
                    return Of(solved) with { AdjointNorms = norms.Read() };
                }
        }
    }

    private static ShardSolve Of(SampleGradients solved) => new(solved.Sample, solved.Noise, solved.Inputs, solved.Statistics, solved);

    /// <summary>ReFL (Xu et al. 2023): down to a point without a gradient, and from there straight to the sample in one step, which alone is differentiated.</summary>
    private static ShardSolve Direct(SampleRequest request, TrialLoss loss, int step, CancellationToken cancellationToken)
    {
        var (points, schedule) = (request.Grid.Points, request.Grid.Schedule);
        using var reached = step == 0 ? null : Sampling.Sample(request with { Grid = new TimeGrid(schedule, [.. points.Take(step + 1)]) }, cancellationToken);
        var solved = Sampling.Differentiate(
            request with { Noise = reached?.Sample ?? request.Noise, Grid = new TimeGrid(schedule, [points[step], points[^1]]), Sampler = Sampler.Ddim },
            loss.Mean, GradientMethod.Discrete, cancellationToken);
        var walked = reached?.Statistics.ForwardNfe ?? 0;
        return Of(solved) with { Noise = null, Statistics = solved.Statistics with { ForwardNfe = solved.Statistics.ForwardNfe + walked } };
    }

    private static ShardSolve Matched(GradientSpec gradient, SampleRequest request, NoiseField frozen, TrialLoss loss, CancellationToken cancellationToken)
    {
        var matching = new AdjointMatching { BaseField = frozen, RewardScale = gradient.RewardScale ?? 1, Last = gradient.Last is { } last ? Math.Min(last, request.Grid.Steps) : null };
        var solved = matching.Differentiate(request, x => loss.PerSample(x).neg(), cancellationToken);
        return new(solved.Sample, null, solved.Inputs, solved.Statistics, solved);
    }

    /// <summary>A whole number below a bound, the same for all that have the key: where the largest of so many draws stands.</summary>
    private static int Draw(NoiseKey key, int below)
    {
        var draws = new double[below];
        CounterNoise.Fill(key with { Draw = DrawWords.Truncation }, 0, draws);
        return draws.IndexOf(draws.Max());
    }
}
