using TorchSharp;

namespace AdjointDpm.Models;

/// <summary>Scalars that live as long as the process.</summary>
/// <remarks>
/// TorchSharp passes a scalar's native pointer without keeping the managed object alive, and both <c>x * 2.0</c> and <c>a + b</c>
/// make such a temporary: the collector may free it while the call reads it. Arithmetic in networks and solvers uses these instead.
/// </remarks>
internal static class Rooted
{
    public static readonly Scalar Zero = 0.0;
    public static readonly Scalar One = 1.0;
    public static readonly Scalar Two = 2.0;
    public static readonly Scalar Half = 0.5;

    /// <summary>a + b.</summary>
    public static torch.Tensor Plus(this torch.Tensor a, torch.Tensor b) => a.add(b, One);

    /// <summary>a + b for each number of a. TorchSharp's <c>add</c> with one argument makes a scalar for its factor of b.</summary>
    public static torch.Tensor Plus(this torch.Tensor a, Scalar b) => a.add(b, One);

    /// <summary>factor a, by a scalar that is held until the call is over.</summary>
    public static torch.Tensor Times(this torch.Tensor a, double factor)
    {
        using var scalar = factor.ToScalar();
        return a.mul(scalar);
    }

    /// <summary>The one number of a tensor.</summary>
    /// <remarks>TorchSharp's own <c>ToDouble</c> and <c>ToBoolean</c> read a temporary scalar that the collector may free meanwhile: a wrong number, or the end of the process.</remarks>
    public static double Number(this torch.Tensor one)
    {
        using var scalar = one.ToScalar();
        return scalar.ToDouble();
    }

    /// <summary>The one truth value of a tensor.</summary>
    public static bool IsTrue(this torch.Tensor one)
    {
        using var scalar = one.ToScalar();
        return scalar.ToBoolean();
    }

    /// <summary>a².</summary>
    /// <remarks>TorchSharp's own <c>square</c> is <c>pow(2)</c>, with a temporary scalar.</remarks>
    public static torch.Tensor Squared(this torch.Tensor a) => a.mul(a);

    /// <summary>A tensor in float32 or wider: as it is, or converted from something narrower.</summary>
    public static torch.Tensor Wide(this torch.Tensor a) => a.dtype is torch.ScalarType.Float32 or torch.ScalarType.Float64 ? a : a.to(torch.ScalarType.Float32);

    /// <summary>The dtype that a network computes in: its first parameter's.</summary>
    public static torch.ScalarType Dtype(this torch.nn.Module network) => network.parameters().First().dtype;
}
