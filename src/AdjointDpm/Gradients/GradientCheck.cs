using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>How far one gradient agrees with a reference, for one tensor.</summary>
/// <param name="Name">"x_T" or an input's name.</param>
/// <param name="Cosine">Cosine of the angle between them: 1 is the same direction; NaN if exactly one of them is zero.</param>
/// <param name="NormRatio">Norm over the reference's norm: 1 is the same size. An optimiser that normalises hides this, so it is reported apart.</param>
/// <param name="RelativeError">Norm of the difference over the reference's norm.</param>
public readonly record struct GradientAgreement(string Name, double Cosine, double NormRatio, double RelativeError);

/// <summary>Measures gradients against each other and against finite differences.</summary>
public static class GradientCheck
{
    /// <summary>The name under which the gradient with respect to the initial noise is reported.</summary>
    public const string NoiseName = "x_T";

    /// <summary>Differentiates twice and compares.</summary>
    /// <param name="request">What to sample; use few steps if the reference stores all activations.</param>
    /// <param name="loss">Scalar loss of x_0.</param>
    /// <param name="method">Method under test.</param>
    /// <param name="reference">What it is compared with. Default: <see cref="GradientMethod.StoreAll"/>.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>Agreement for x_T, then for each declared input in order.</returns>
    public static IReadOnlyList<GradientAgreement> Run(SampleRequest request, Func<Tensor, Tensor> loss, GradientMethod method, GradientMethod? reference = null, CancellationToken cancellationToken = default)
    {
        using var expected = Sampling.Differentiate(request, loss, reference ?? GradientMethod.StoreAll, cancellationToken);
        using var actual = Sampling.Differentiate(request, loss, method, cancellationToken);
        return Compare(actual, expected);
    }

    /// <summary>Compares the gradients of two solves of the same request.</summary>
    /// <returns>Agreement for x_T, then for each declared input in order.</returns>
    /// <exception cref="ArgumentException">The two have different inputs.</exception>
    public static IReadOnlyList<GradientAgreement> Compare(SampleGradients actual, SampleGradients reference)
    {
        ArgumentNullException.ThrowIfNull(actual);
        ArgumentNullException.ThrowIfNull(reference);
        if (!actual.Inputs.Keys.SequenceEqual(reference.Inputs.Keys))
            throw new ArgumentException($"The gradients are of different inputs: [{string.Join(", ", actual.Inputs.Keys)}] and [{string.Join(", ", reference.Inputs.Keys)}].", nameof(reference));
        return [Compare(NoiseName, actual.Noise, reference.Noise), .. actual.Inputs.Select(i => Compare(i.Key, i.Value, reference.Inputs[i.Key]))];
    }

    /// <summary>Agreement of one gradient with another, computed in double.</summary>
    public static GradientAgreement Compare(string name, Tensor actual, Tensor reference)
    {
        ArgumentNullException.ThrowIfNull(actual);
        ArgumentNullException.ThrowIfNull(reference);
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        Tensor a = actual.to(ScalarType.Float64), b = reference.to(ScalarType.Float64);
        double normA = a.norm().Number(), normB = b.norm().Number(), difference = a.sub(b).norm().Number();
        // Two zeros agree.
        return normA == 0 && normB == 0
            ? new(name, 1, 1, 0)
            : new(name, a.mul(b).sum().Number() / (normA * normB), normA / normB, difference / normB);
    }

    /// <summary>Central finite difference of the loss along a direction: what the inner product of gradient and direction should be.</summary>
    /// <param name="request">What to sample.</param>
    /// <param name="loss">Scalar loss of x_0.</param>
    /// <param name="name"><see cref="NoiseName"/> or a declared input's name.</param>
    /// <param name="direction">Direction, of that tensor's shape.</param>
    /// <param name="step">Half the width of the difference, in units of the direction. Default: 1e-5, for float64.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>(L(+step) - L(-step)) / (2 step).</returns>
    /// <exception cref="ArgumentException">No input has this name.</exception>
    public static double FiniteDifference(SampleRequest request, Func<Tensor, Tensor> loss, string name, Tensor direction, double step = 1e-5, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(loss);
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        var tensor = name == NoiseName ? request.Noise : request.Field.Inputs.FirstOrDefault(i => i.Name == name).Value
            ?? throw new ArgumentException($"No input is called '{name}'. Declared: {string.Join(", ", request.Field.Inputs.Select(i => i.Name).Prepend(NoiseName))}.", nameof(name));
        return new GradientParts(name, [(name, tensor)]).Difference(request, loss, direction.expand(tensor.shape).reshape(-1), step, cancellationToken);
    }
}
