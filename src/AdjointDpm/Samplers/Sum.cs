using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>A weighted sum of tensors under way: one tensor operation a term, in place from the second on, none for a first term of weight one.</summary>
/// <remarks>The tensors given are never written to, so sums may be taken of stored states and of tensors that require grad.</remarks>
internal struct Sum
{
    private Tensor? _value;
    private bool _owned;

    /// <summary>Adds weight times tensor.</summary>
    public void Add(Tensor tensor, double weight)
    {
        if (weight == 0)
            return;
        if (_value is null && weight == 1)
        {
            _value = tensor;
            return;
        }

        // A named scalar: a temporary one may be collected during the native call.
        using var scalar = weight.ToScalar();
        _value = _value is null ? tensor.mul(scalar) : _owned ? _value.add_(tensor, scalar) : _value.add(tensor, scalar);
        _owned = true;
        Tally.Operations++;
    }

    /// <summary>The sum, as a handle of its own.</summary>
    public readonly Tensor Take() => _owned ? _value! : Value.alias();

    /// <summary>A factor times the sum, ready to be read by a network.</summary>
    public readonly Tensor Times(double factor)
    {
        if (factor == 1)
            return Take();
        using var scalar = factor.ToScalar();
        Tally.Operations++;
        return _owned ? _value!.mul_(scalar) : Value.mul(scalar);
    }

    private readonly Tensor Value => _value ?? throw new InvalidOperationException("A sum needs a term of non-zero weight.");
}

/// <summary>Counts what the solvers do outside the network on this thread: tensor operations, and reads that wait for the device.</summary>
/// <remarks>The cost of a step is promised in these units because they do not depend on the machine.</remarks>
internal static class Tally
{
    [ThreadStatic]
    private static long operations, reads;

    /// <summary>Tensor operations.</summary>
    public static ref long Operations => ref operations;

    /// <summary>Numbers read back to the host.</summary>
    public static ref long Reads => ref reads;
}
