using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Norm of the adjoint state at each point of a grid, gathered on the device and read once: where on the way the loss is decided.</summary>
internal sealed class AdjointNorms(SampleRequest request) : IDisposable
{
    private readonly Tensor _norms = zeros(request.Grid.Points.Count, ScalarType.Float64, request.Noise.device).DetachFromDisposeScope();

    /// <summary>Takes ∂L/∂x at a point.</summary>
    public void Take(int point, Tensor gradient)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        // A sum of squares of float16 overflows.
        _norms[point].copy_(gradient.detach().to(ScalarType.Float64).norm());
    }

    public double[] Read()
    {
        using var here = _norms.cpu();
        return here.data<double>().ToArray();
    }

    public void Dispose() => _norms.Dispose();
}
