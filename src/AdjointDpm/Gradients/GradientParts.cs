using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>One part of everything that a loss is differentiated by: x_T, or the inputs of a group.</summary>
/// <param name="Name">"x_T", or the group's name.</param>
/// <param name="Members">Tensors that are moved: name and value.</param>
internal sealed record GradientParts(string Name, IReadOnlyList<(string Name, Tensor Value)> Members)
{
    /// <summary>x_T, then the groups in the order of their first input.</summary>
    public static IReadOnlyList<GradientParts> Of(SampleRequest request, Func<string, string> group) =>
    [
        new(GradientCheck.NoiseName, [(GradientCheck.NoiseName, request.Noise)]),
        .. request.Field.Inputs.GroupBy(input => group(input.Name)).Select(inputs => new GradientParts(inputs.Key, [.. inputs.Select(input => (input.Name, input.Value))])),
    ];

    /// <summary>All parts as one.</summary>
    public static GradientParts All(IEnumerable<GradientParts> parts) => new(GradientProof.AllName, [.. parts.SelectMany(part => part.Members)]);

    /// <summary>How far two gradients agree on this part.</summary>
    public GradientAgreement Compare(GradientEstimate actual, GradientEstimate reference)
    {
        using var scope = NewDisposeScope();
        return GradientCheck.Compare(Name, Vector(actual), Vector(reference));
    }

    /// <summary>The gradient of this part as one vector of float64, in the current dispose scope.</summary>
    public Tensor Vector(SampleGradients solved) => Vector(GradientEstimate.Of(solved));

    /// <inheritdoc cref="Vector(SampleGradients)"/>
    public Tensor Vector(GradientEstimate estimate)
    {
        using var grad = no_grad();
        return cat([.. Members.Select(member => (member.Name == GradientCheck.NoiseName ? estimate.Noise! : estimate.Inputs[member.Name]).to(ScalarType.Float64).reshape(-1))]);
    }

    /// <summary>Central difference of the loss of x_0 along a direction of this part, which is put back afterwards.</summary>
    /// <param name="request">What to sample.</param>
    /// <param name="loss">Scalar loss of x_0.</param>
    /// <param name="direction">As one vector.</param>
    /// <param name="step">Half width in units of the direction.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <param name="count">Told what each sample cost.</param>
    public double Difference(SampleRequest request, Func<Tensor, Tensor> loss, Tensor direction, double step, CancellationToken cancellationToken, Action<SolveStatistics>? count = null)
    {
        var cut = Cut(direction);
        var before = Members.Select(member => member.Value.clone()).ToList();
        try
        {
            var above = LossAt(step);
            return (above - LossAt(-step)) / (2 * step);
        }
        finally
        {
            Put(before);
        }

        double LossAt(double by)
        {
            using var scope = NewDisposeScope();
            using var scalar = by.ToScalar();
            var moved = before.Zip(cut, (value, d) => value.add(d, scalar)).ToList();
            Put(moved);
            var noise = Members.ToList().FindIndex(member => member.Name == GradientCheck.NoiseName);
            using var result = Sampling.Sample(noise < 0 ? request : request with { Noise = moved[noise] }, cancellationToken);
            count?.Invoke(result.Statistics);
            using var value = loss(result.Sample);
            return value.to(ScalarType.Float64).Number();
        }

        // The request's noise belongs to the caller and is never written to.
        void Put(List<Tensor> values)
        {
            for (var i = 0; i < values.Count; i++)
                if (Members[i].Name != GradientCheck.NoiseName)
                    Members[i].Value.copy_(values[i]);
        }
    }

    /// <summary>A vector cut into tensors of the members' shapes and dtypes, in the current dispose scope.</summary>
    private List<Tensor> Cut(Tensor vector)
    {
        var (tensors, start) = (new List<Tensor>(), 0L);
        foreach (var (_, value) in Members)
        {
            tensors.Add(vector.narrow(0, start, value.numel()).reshape(value.shape).to(value.dtype, value.device));
            start += value.numel();
        }

        return tensors;
    }
}

/// <summary>Finite differences of a loss along directions that the gradient is large in.</summary>
/// <param name="request">What is sampled.</param>
/// <param name="loss">Scalar loss of x_0.</param>
/// <param name="key">Stream of the random directions.</param>
/// <param name="tolerance">Relative distance from the unrolled gradient that is no reason to look again.</param>
/// <param name="cancellationToken">Looked at before every step.</param>
internal sealed class DifferenceDirections(SampleRequest request, Func<Tensor, Tensor> loss, NoiseKey key, double tolerance, CancellationToken cancellationToken)
{
    // Each step is a tenth of the one before. Truncation falls with its square and rounding grows with its inverse: where two neighbours agree best, neither rules.
    // In float64 rounding leaves room for steps that fewer kinks of a loss (rectifiers, maxima) lie within: they are gone on to before the gradient is said to be wrong.
    private static readonly double[] _double = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];
    private static readonly double[] _single = [1e-2, 1e-3, 1e-4];

    /// <summary>Steps that are taken in any case.</summary>
    private const int Least = 3;

    private ushort _draws;

    /// <summary>Evaluations of the network so far.</summary>
    public int Nfe { get; private set; }

    /// <summary>The derivative along the unrolled gradient's direction plus a random one of the same length, so that it is neither small by chance nor blind to the rest.</summary>
    public DirectionalDerivative Along(GradientParts part, GradientEstimate configured, GradientEstimate unrolled)
    {
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        var gradient = part.Vector(unrolled);
        var direction = Unit(CounterNoise.Normal(key with { Draw = _draws++ }, [1, gradient.numel()], ScalarType.Float64).reshape(-1).to(gradient.device)).Plus(Unit(gradient));
        // The length of what is moved sets the scale of its steps.
        var scale = Math.Max(1, Math.Sqrt(part.Members.Sum(member => member.Value.to(ScalarType.Float64).Squared().sum().Number() / Math.Max(1, member.Value.numel()))));
        var (along, told) = (gradient.dot(direction).Number(), part.Vector(configured).dot(direction).Number());
        var estimates = new List<(double Step, double Value)>();
        var best = 0;
        foreach (var step in (request.Noise.dtype == ScalarType.Float64 ? _double : _single).Select(step => step * scale))
        {
            if (estimates.Count >= Least && Of(best).Holds(tolerance))
                break;
            estimates.Add((step, part.Difference(request, loss, direction, step, cancellationToken, cost => Nfe += cost.ForwardNfe)));
            best = best == 0 || Apart(estimates.Count - 1) < Apart(best) ? estimates.Count - 1 : best;
        }

        return Of(best);

        DirectionalDerivative Of(int i) => new(part.Name, estimates[i].Value, along, told, estimates[i].Step, Apart(i));

        double Apart(int i) => Math.Abs(estimates[i].Value - estimates[i - 1].Value);
    }

    private static Tensor Unit(Tensor vector)
    {
        var norm = vector.norm();
        return norm.Number() == 0 ? vector : vector.div(norm);
    }
}
