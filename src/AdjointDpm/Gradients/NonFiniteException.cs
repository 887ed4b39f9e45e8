using System.Globalization;

namespace AdjointDpm.Gradients;

/// <summary>A NaN or infinity came up in a solve. Names the first place, found by replaying the solve with a check at each step.</summary>
public sealed class NonFiniteException : ArithmeticException
{
    /// <summary>Reports a value that is not finite.</summary>
    /// <param name="what">What it is: "state", "prediction", "loss", "gradient of input 'name'".</param>
    /// <param name="step">Sampler step, counted from 0 at the noise, if it arose in one.</param>
    /// <param name="rho">sigma / alpha where it arose.</param>
    public NonFiniteException(string what, int? step = null, double? rho = null)
        : base(Describe(what, step, rho))
    {
        (What, Step, Rho) = (what, step, rho);
    }

    /// <summary>What is not finite.</summary>
    public string What { get; }

    /// <summary>Sampler step where it arose first, counted from 0 at the noise; null outside the steps.</summary>
    public int? Step { get; }

    /// <summary>sigma / alpha where it arose first; null outside the steps.</summary>
    public double? Rho { get; }

    private static string Describe(string what, int? step, double? rho)
    {
        var where = step is null ? "" : string.Create(CultureInfo.InvariantCulture, $" first at step {step}, rho = {rho:g6}");
        return $"The {what} is not finite{where}. Check the network's weights and dtype, the guidance scale and the size of the last optimiser step.";
    }
}

/// <summary>The sample depends on tensors that require grad but were not declared as inputs, so their gradients would silently be missing.</summary>
public sealed class UndeclaredInputException : InvalidOperationException
{
    /// <summary>Reports undeclared inputs.</summary>
    /// <param name="names">Names as far as known; may be empty.</param>
    public UndeclaredInputException(IReadOnlyList<string> names)
        : base(Describe(names))
        => Names = names;

    /// <summary>Names of the undeclared tensors: parameters of known networks by their prefix, others as the predictor's captured variables, fields and elements are called. Empty if the predictor holds none that requires grad.</summary>
    public IReadOnlyList<string> Names { get; }

    private static string Describe(IReadOnlyList<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        var which = names.Count == 0
            ? "a tensor that the predictor does not hold itself, so that its name is unknown (NoiseField.Knowing makes a network known)"
            : string.Join(", ", names.Take(8)) + (names.Count > 8 ? $" and {names.Count - 8} more" : "");
        return $"The noise predictor depends on tensors that require grad but were not declared: {which}. Declare them with NoiseField.With to get their gradients, or hold them constant with NoiseField.Freeze.";
    }
}
