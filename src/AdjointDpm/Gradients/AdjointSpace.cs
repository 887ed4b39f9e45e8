using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>State or slope of the continuous adjoint: y, p, and for a slope (∂eps/∂input)ᵀ p of each input.</summary>
internal sealed class AdjointState(Tensor y, Tensor p, Tensor?[]? inputs) : IDisposable
{
    public Tensor Y { get; } = y;

    public Tensor P { get; } = p;

    /// <summary>Null for a state, and for a slope whose share was added up; an element is null where the prediction does not depend on the input.</summary>
    public Tensor?[]? Inputs { get; set; } = inputs;

    public void Dispose()
    {
        Y.Dispose();
        P.Dispose();
        foreach (var input in Inputs ?? [])
            input?.Dispose();
    }
}

/// <summary>Arithmetic of the continuous adjoint. Holds the inputs' quadratures while a solve runs; puts them into the inputs' grad on disposal.</summary>
internal sealed class AdjointSpace : StateSpace<AdjointState>, IDisposable
{
    private readonly IReadOnlyList<Tensor> _inputs;
    private readonly bool _seminorm;
    private readonly Tensor?[] _total, _step, _error;

    /// <summary>Takes what the inputs have accumulated so far as the quadratures' start.</summary>
    public AdjointSpace(IReadOnlyList<Tensor> inputs, bool seminorm)
    {
        (_inputs, _seminorm) = (inputs, seminorm);
        _total = TakeFrom(inputs);
        (_step, _error) = (new Tensor?[inputs.Count], new Tensor?[inputs.Count]);
    }

    /// <summary>Takes the gradients of the last evaluation out of the inputs, into the dispose scope around the current one.</summary>
    public Tensor?[] TakeGradients() => [.. TakeFrom(_inputs).Select(g => g?.MoveToOuterDisposeScope())];

    public override AdjointState Combine(AdjointState y, ReadOnlySpan<double> weights, ReadOnlySpan<AdjointState> vectors)
    {
        Sum state = default, adjoint = default;
        state.Add(y.Y, 1);
        adjoint.Add(y.P, 1);
        for (var i = 0; i < weights.Length; i++)
        {
            state.Add(vectors[i].Y, weights[i]);
            adjoint.Add(vectors[i].P, weights[i]);
        }

        return new(state.Take(), adjoint.Take(), null);
    }

    public override double Norm(ReadOnlySpan<double> weights, ReadOnlySpan<AdjointState> vectors, AdjointState before, AdjointState after, StepControl control)
    {
        using var scope = NewDisposeScope();
        var y = new Tensor[vectors.Length];
        var p = new Tensor[vectors.Length];
        for (var i = 0; i < vectors.Length; i++)
            (y[i], p[i]) = (vectors[i].Y, vectors[i].P);
        List<Tensor> norms = [Rms(weights, y, before.Y, after.Y), Rms(weights, p, before.P, after.P)];
        for (var i = 0; i < _error.Length; i++)
        {
            if (_error[i] is not { } error)
                continue;
            var start = _total[i] ?? zeros_like(error);
            norms.Add(Rms([1], [error], start, start.Plus(_step[i]!)).to_type(norms[0].dtype));
        }

        Tally.Reads++;
        return stack(norms).max().Number();

        Tensor Rms(ReadOnlySpan<double> of, ReadOnlySpan<Tensor> tensors, Tensor from, Tensor to)
        {
            using var size = (1 / Math.Sqrt(from.numel())).ToScalar();
            return TensorSpace.ScaledNorm(of, tensors, from, to, control).mul(size);
        }
    }

    public override void Absorb(AdjointState slope, double weight, double error, bool reused)
    {
        for (var i = 0; i < _inputs.Count; i++)
        {
            if (slope.Inputs?[i] is not { } gradient)
                continue;
            Accumulate(ref _step[i], gradient, -weight);
            if (!_seminorm)
                Accumulate(ref _error[i], gradient, -error);
        }

        if (reused)
            return;
        foreach (var gradient in slope.Inputs ?? [])
            gradient?.Dispose();
        slope.Inputs = null;
    }

    public override void Settle(bool accepted)
    {
        for (var i = 0; i < _inputs.Count; i++)
        {
            if (_step[i] is { } step)
            {
                if (accepted && _total[i] is { } total)
                    total.add_(step, Rooted.One);
                if (accepted && _total[i] is null)
                    _total[i] = step;
                else
                    step.Dispose();
            }

            _error[i]?.Dispose();
            (_step[i], _error[i]) = (null, null);
        }
    }

    public override void Free(AdjointState value) => value.Dispose();

    public void Dispose()
    {
        for (var i = 0; i < _inputs.Count; i++)
            _inputs[i].grad = _total[i];
    }

    private static Tensor?[] TakeFrom(IReadOnlyList<Tensor> inputs)
    {
        var taken = new Tensor?[inputs.Count];
        for (var i = 0; i < taken.Length; i++)
        {
            taken[i] = inputs[i].grad;
            inputs[i].grad = null;
        }

        return taken;
    }

    private static void Accumulate(ref Tensor? sum, Tensor gradient, double weight)
    {
        using var scalar = weight.ToScalar();
        sum = sum is null ? gradient.mul(scalar) : sum.add_(gradient, scalar);
    }
}
