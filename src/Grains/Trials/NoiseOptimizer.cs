using System.Numerics.Tensors;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Trials;

/// <summary>Moves the initial noise x_T of many samples, each a problem of its own, and keeps each where it may be.</summary>
/// <remarks>
/// In this order, for each sample: values of the gradient are cut to 'clip' (DOODL, Wallace et al. 2023), its length to optimizer.maxNorm, then it is replaced by its signs or brought to length 1 (Madry et al. 2018);
/// momentum; the optimiser's step; projection onto the box about the noise that the sample began with, or back to that noise's length. Lengths are added in double, in order.
/// </remarks>
internal sealed class NoiseOptimizer : ParameterOptimizer
{
    private readonly ParameterOptimizer _inner;
    private readonly NoiseTrainSpec _noise;
    private readonly double? _maxNorm;
    private readonly int _samples;
    private readonly int _restarts;
    private readonly bool _hasMomentum;
    private readonly bool _hasStart;

    public NoiseOptimizer(ExperimentSpec spec)
    {
        _inner = Of(spec.Optimizer);
        _noise = spec.Train.Noise ?? new NoiseTrainSpec();
        _maxNorm = spec.Optimizer.MaxNorm;
        _samples = checked(spec.Training.Shards * spec.Training.SamplesPerShard);
        _restarts = _noise.Box?.Restarts ?? 1;
        _hasMomentum = _noise.Momentum > 0;
        _hasStart = _noise.KeepNorm == true || _noise.Box is not null;
    }

    /// <summary>Of the inner optimiser, then momentum, then the start, where they are needed.</summary>
    public override int StatePerParameter => _inner.StatePerParameter + (_hasMomentum ? 1 : 0) + (_hasStart ? 1 : 0);

    public override void Step(int step, Span<float> parameters, Span<float> gradient, Span<float> state)
    {
        var n = parameters.Length;
        Lengths.Require(n, gradient.Length, state.Length, StatePerParameter);
        if (n % _samples != 0)
            throw new ArgumentException($"{n} numbers are not the noises of {_samples} samples.", nameof(parameters));
        var each = n / _samples;
        var inner = state[..(n * _inner.StatePerParameter)];
        var momentum = _hasMomentum ? state.Slice(inner.Length, n) : [];
        var start = _hasStart ? state[^n..] : [];
        if (_hasStart && step == 1)
            parameters.CopyTo(start);
        for (var i = 0; i < _samples; i++)
            Shape(gradient.Slice(i * each, each));
        if (_hasMomentum)
        {
            var decay = (float)_noise.Momentum!.Value;
            for (var i = 0; i < n; i++)
                gradient[i] = momentum[i] = decay * momentum[i] + gradient[i];
        }
        _inner.Step(step, parameters, gradient, inner);
        for (var i = 0; _hasStart && i < _samples; i++)
        {
            // The box is about the noise itself: the first of its starts.
            var centre = start.Slice(i / _restarts * _restarts * each, each);
            Place(parameters.Slice(i * each, each), _noise.Box is null ? start.Slice(i * each, each) : centre);
        }
    }

    private void Shape(Span<float> gradient)
    {
        if (_noise.Clip is { } clip)
        {
            var limit = (float)clip;
            // NaN stays NaN.
            for (var i = 0; i < gradient.Length; i++)
                gradient[i] = gradient[i] > limit ? limit : gradient[i] < -limit ? -limit : gradient[i];
        }
        if (_maxNorm is not null)
            GradientNorm.Clip(gradient, GradientNorm.L2(gradient), _maxNorm);
        switch (_noise.Step)
        {
            case NoiseStepName.Sign:
                for (var i = 0; i < gradient.Length; i++)
                    gradient[i] = gradient[i] > 0 ? 1 : gradient[i] < 0 ? -1 : 0;
                break;
            case NoiseStepName.Normalized when GradientNorm.L2(gradient) is > 0 and var length:
                TensorPrimitives.Multiply(gradient, (float)(1 / length), gradient);
                break;
        }
    }

    private void Place(Span<float> noise, ReadOnlySpan<float> start)
    {
        if (_noise.Box is not { } box)
        {
            var (now, wanted) = (GradientNorm.L2(noise), GradientNorm.L2(start));
            if (now > 0)
                TensorPrimitives.Multiply(noise, (float)(wanted / now), noise);
            return;
        }
        if (box.Norm == NoiseBoxNorm.Linf)
        {
            for (var i = 0; i < noise.Length; i++)
                noise[i] = Inside(noise[i], start[i], box.Radius);
            return;
        }
        var squares = 0.0;
        for (var i = 0; i < noise.Length; i++)
            squares += ((double)noise[i] - start[i]) * ((double)noise[i] - start[i]);
        var distance = Math.Sqrt(squares);
        if (distance <= box.Radius)
            return;
        // Towards the start, so that rounding leaves nothing outside.
        var share = box.Radius / distance * (1 - 1e-6);
        for (var i = 0; i < noise.Length; i++)
            noise[i] = (float)(start[i] + ((double)noise[i] - start[i]) * share);
    }

    /// <summary>The nearest fp32 number within the radius, rounded inwards.</summary>
    private static float Inside(float value, float centre, double radius)
    {
        var (low, high) = (centre - radius, centre + radius);
        if (value >= low && value <= high)
            return value;
        var edge = (float)(value < low ? low : high);
        return edge < low ? MathF.BitIncrement(edge) : edge > high ? MathF.BitDecrement(edge) : edge;
    }
}
