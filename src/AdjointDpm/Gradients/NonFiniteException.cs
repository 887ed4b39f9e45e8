using System.Globalization;

namespace AdjointDpm.Gradients;

/// <summary>A NaN or infinity came up in a solve. Names the first place, found by replaying the solve with a check at each step.</summary>
public sealed class NonFiniteException : ArithmeticException
{
    /// <summary>Reports a value that is not finite.</summary>
    /// <param name="what">What it is: "state", "prediction", "loss", "gradient of input 'name'".</param>
    /// <param name="step">Sampler step, counted from 0 at the noise, if it arose in one.</param>
    /// <param name="rho">sigma / alpha where it arose.</param>
    /// <param name="layer">Layer of the network in which it arose; "before …" where the layer was given it.</param>
    public NonFiniteException(string what, int? step = null, double? rho = null, string? layer = null)
        : base(Describe(what, step, rho, layer))
    {
        (What, Step, Rho, Layer) = (what, step, rho, layer);
    }

    /// <summary>What is not finite.</summary>
    public string What { get; }

    /// <summary>Sampler step where it arose first, counted from 0 at the noise; null outside the steps.</summary>
    public int? Step { get; }

    /// <summary>sigma / alpha where it arose first; null outside the steps.</summary>
    public double? Rho { get; }

    /// <summary>Layer of a network whose output was the first that is not finite, such as <c>unet.mid_block.resnets.0.conv1</c>; "before" it where what it is given is not finite already. Null where no layer of a network that the field knows is to blame.</summary>
    public string? Layer { get; }

    private static string Describe(string what, int? step, double? rho, string? layer)
    {
        var where = step is null ? "" : string.Create(CultureInfo.InvariantCulture, $" first at step {step}, rho = {rho:g6}");
        var place = layer is null ? "" : layer.StartsWith("before ", StringComparison.Ordinal) ? $", {layer}" : $", in {layer}";
        return $"The {what} is not finite{where}{place}. Check the network's weights and dtype, the guidance scale and the size of the last optimiser step.";
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
