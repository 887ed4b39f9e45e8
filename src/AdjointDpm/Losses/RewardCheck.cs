using System.Globalization;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>One direction in which a reward's gradient was compared with central differences.</summary>
/// <param name="Direction">"gradient" for the gradient's own, "random 1", "random 2", ….</param>
/// <param name="Gradient">⟨gradient, direction⟩ of the sum over the samples, the direction's values having a root mean square of 1.</param>
/// <param name="Difference">The central difference that comes nearest, of several steps.</param>
/// <param name="Step">Its step, in units of the samples.</param>
/// <param name="RelativeError">|Gradient − Difference| over the larger of |Gradient| and ‖gradient‖, what a random direction is expected to have.</param>
public readonly record struct RewardSlope(string Direction, double Gradient, double Difference, double Step, double RelativeError);

/// <summary>What was found out about a reward.</summary>
public sealed record RewardReport
{
    /// <summary>Whether nothing speaks against using the reward.</summary>
    public bool Passed => Problems.Count == 0;

    /// <summary>What speaks against it, a sentence or two each; empty if nothing does.</summary>
    public required IReadOnlyList<string> Problems { get; init; }

    /// <summary>Least loss of the samples.</summary>
    public double Lowest { get; init; }

    /// <summary>Largest loss of the samples.</summary>
    public double Highest { get; init; }

    /// <summary>Mean loss of the samples.</summary>
    public double Mean { get; init; }

    /// <summary>Precision that the losses are computed in, which decides the tolerance.</summary>
    public ScalarType Precision { get; init; }

    /// <summary>Largest relative error of a slope that passes.</summary>
    public double Tolerance { get; init; }

    /// <summary>Norm of the gradient of the sum over the samples.</summary>
    public double GradientNorm { get; init; }

    /// <summary>The gradient against central differences.</summary>
    public IReadOnlyList<RewardSlope> Slopes { get; init; } = [];

    /// <summary>Largest change of a sample's loss when the others change or are left away, over the spread or size of the losses: 0 for a reward of single samples.</summary>
    public double Coupling { get; init; }

    /// <summary>Whether loss and gradient had the same bits each time.</summary>
    public bool Deterministic { get; init; }
}

/// <summary>Tests whether a reward is fit for gradients: finite values, a gradient that agrees with central differences, independence of the samples, repeatability.</summary>
public static class RewardCheck
{
    private const int Repeats = 3;

    /// <summary>Tests a reward at given samples.</summary>
    /// <param name="loss">The reward, as a loss. Its networks' dtype decides the precision; float64 is the sharper test.</param>
    /// <param name="samples">Two samples or more, [B, C, H, W] in [-1, 1], such as the model makes. Use float64 if the loss computes in it.</param>
    /// <param name="directions">Random directions beside the gradient's own. Default: 3.</param>
    /// <param name="tolerance">Largest relative error of a slope. Default: 1e-6 in float64, 1e-2 in float32, 1e-1 in half precision.</param>
    /// <param name="seed">Seed of the directions. Default: 0.</param>
    /// <returns>What was found. What goes wrong inside the reward itself is thrown as it is, except that it has no gradient: that is a problem of the report.</returns>
    /// <exception cref="ArgumentException">There are fewer than two samples.</exception>
    public static RewardReport Run(SampleLoss loss, Tensor samples, int directions = 3, double? tolerance = null, ulong seed = 0)
    {
        ArgumentNullException.ThrowIfNull(loss);
        ArgumentNullException.ThrowIfNull(samples);
        if (samples.dim() < 2 || samples.shape[0] < 2)
            throw new ArgumentException($"Samples [{string.Join(", ", samples.shape)}] do not tell whether one depends on another. Give two or more, [B, C, H, W].", nameof(samples));
        using var scope = NewDisposeScope();
        var x = samples.detach();
        try
        {
            return new Probe(loss, x, tolerance).Report(directions, seed);
        }
        catch (NoGradientException error)
        {
            return new() { Problems = [error.Message] };
        }
    }

    private sealed class Probe
    {
        private readonly SampleLoss _loss;
        private readonly Tensor _x;
        private readonly Tensor _gradient;
        private readonly double[] _values;
        private readonly ScalarType _precision;
        private readonly double _tolerance;
        private readonly double _bound;
        private readonly List<string> _problems = [];

        public Probe(SampleLoss loss, Tensor x, double? tolerance)
        {
            (_loss, _x) = (loss, x);
            var (values, gradient) = Differentiate(x, null);
            _precision = Narrower(values.dtype, x.dtype);
            (_tolerance, _bound) = _precision switch
            {
                ScalarType.Float64 => (1e-6, 1e-9),
                ScalarType.Float32 => (1e-2, 1e-4),
                _ => (1e-1, 1e-2),
            };
            _tolerance = tolerance ?? _tolerance;
            (_values, _gradient) = (Host(values), gradient);
        }

        public RewardReport Report(int directions, ulong seed)
        {
            var norm = _gradient.to(ScalarType.Float64).norm().Number();
            var finite = Finite(norm);
            var slopes = finite ? Slopes(directions, seed, norm) : [];
            var coupling = finite ? Coupling() : double.NaN;
            if (finite)
                Extremes();
            return new()
            {
                Problems = _problems,
                Lowest = _values.Min(),
                Highest = _values.Max(),
                Mean = _values.Average(),
                Precision = _precision,
                Tolerance = _tolerance,
                GradientNorm = norm,
                Slopes = slopes,
                Coupling = coupling,
                Deterministic = Repeated(),
            };
        }

        private bool Finite(double norm)
        {
            if (_values.Any(v => !double.IsFinite(v)))
                _problems.Add($"The loss is not finite for sample {Array.FindIndex(_values, v => !double.IsFinite(v))}: {string.Join(", ", _values.Select(Text))}.");
            else if (!double.IsFinite(norm))
                _problems.Add("The gradient is not finite although the loss is. Look for a root, a norm or a logarithm of zero, and add a small number inside it.");
            return _problems.Count == 0;
        }

        // The steps in between are where truncation and rounding are both small for some reward; the nearest difference counts.
        private List<RewardSlope> Slopes(int directions, ulong seed, double norm)
        {
            var slopes = new List<RewardSlope>();
            for (var k = norm > 0 ? 0 : 1; k <= directions; k++)
            {
                using var scope = NewDisposeScope();
                var raw = k == 0 ? _gradient.to(ScalarType.Float64) : CounterNoise.Normal(new NoiseKey(seed, (uint)k), _x.shape, ScalarType.Float64, _x.device);
                using var scale = (Math.Sqrt(raw.numel()) / raw.norm().Number()).ToScalar();
                var direction = raw.mul(scale);
                var slope = _gradient.to(ScalarType.Float64).mul(direction).sum().Number();
                RewardSlope best = new("", slope, double.NaN, double.NaN, double.PositiveInfinity);
                for (var (step, least) = (1e-1, _precision == ScalarType.Float64 ? 1e-7 : 1e-4); step > 0.9 * least; step /= 10)
                {
                    var difference = (Sum(direction, step) - Sum(direction, -step)) / (2 * step);
                    var size = Math.Max(Math.Abs(slope), norm);
                    var error = Math.Abs(slope - difference) / (size > 0 ? size : 1);
                    if (error < best.RelativeError)
                        best = new(k == 0 ? "gradient" : $"random {k}", slope, difference, step, error);
                }

                slopes.Add(best);
            }

            if (norm == 0)
                _problems.Add(slopes.All(s => Math.Abs(s.Difference) < _tolerance) ? $"The gradient is zero, and the loss does not change near these samples. {NoGradientException.Alternatives}" : $"The gradient is zero although the loss changes. {NoGradientException.Alternatives}");
            else if (slopes.Where(s => !(s.RelativeError <= _tolerance)).ToArray() is { Length: > 0 } wrong)
                _problems.Add($"The gradient is not that of the loss: along '{wrong[0].Direction}' it says {Text(wrong[0].Gradient)}, differences say {Text(wrong[0].Difference)} (relative error {Text(wrong[0].RelativeError)}, allowed {Text(_tolerance)}). Look for a detach, a wrong factor, or a jump.");
            return slopes;
        }

        private double Coupling()
        {
            var spread = Math.Max(_values.Max() - _values.Min(), _values.Max(Math.Abs));
            var unit = spread > 0 ? spread : 1;
            var (worst, at) = (0.0, -1);
            var batch = (int)_x.shape[0];
            for (var i = 0; i < batch; i++)
            {
                using var scope = NewDisposeScope();
                // The others change places: the size of the batch, and what belongs to each place, stay.
                var others = _x.roll(1, 0).clone();
                others[i] = _x[i];
                Note(Host(Values(others))[i], i);
                if (Alone(i) is { } alone)
                    Note(alone, i);
            }

            if (worst > _bound)
                _problems.Add($"The loss of sample {at} depends on the other samples (by {Text(worst)} of the losses' size), but a sample's loss must be its own: shards of a batch are computed apart. Do not normalise or average over the batch; set batch normalisation to evaluation.");
            else
                GradientOfOthers();
            return worst;

            void Note(double value, int i)
            {
                var change = Math.Abs(value - _values[i]) / unit;
                if (!(change <= worst))
                    (worst, at) = (change, i);
            }
        }

        private void GradientOfOthers()
        {
            using var scope = NewDisposeScope();
            using var first = zeros(_x.shape[0], dtype: Values(_x).dtype, device: _x.device);
            first[0] = ones([], dtype: first.dtype, device: first.device);
            var (_, gradient) = Differentiate(_x, first);
            var others = gradient.narrow(0, 1, _x.shape[0] - 1).to(ScalarType.Float64).norm().Number();
            if (others > _bound * gradient.to(ScalarType.Float64).norm().Number())
                _problems.Add("The gradient of sample 0's loss reaches into other samples, but a sample's loss must be its own: shards of a batch are computed apart.");
        }

        // A loss with a label or target for each sample cannot take one alone.
        private double? Alone(int i)
        {
            try
            {
                return Host(Values(_x.narrow(0, i, 1)))[0];
            }
            catch (ArgumentException)
            {
                return null;
            }
        }

        private void Extremes()
        {
            foreach (var (value, name) in new[] { (-1.0, "black"), (0.0, "grey"), (1.0, "white") })
            {
                using var scope = NewDisposeScope();
                var (values, gradient) = Differentiate(tensor([value], dtype: _x.dtype, device: _x.device).expand(_x.shape).contiguous(), null);
                if (Host(values).Any(v => !double.IsFinite(v)) || !double.IsFinite(gradient.to(ScalarType.Float64).norm().Number()))
                    _problems.Add($"The loss or its gradient is not finite for a {name} picture, which training can pass. Look for a root, a norm, a quotient or a logarithm of zero.");
            }
        }

        private bool Repeated()
        {
            for (var i = 0; i < Repeats; i++)
            {
                using var scope = NewDisposeScope();
                var (values, gradient) = Differentiate(_x, null);
                if (Host(values).AsSpan().SequenceEqual(_values) && gradient.Equals(_gradient))
                    continue;
                if (_values.All(double.IsFinite))
                    _problems.Add("The same samples give another loss or gradient when asked again, so that runs cannot be repeated. Take random choices from the seed and the step; set dropout to evaluation.");
                return false;
            }

            return true;
        }

        private Tensor Values(Tensor x)
        {
            using var frozen = no_grad();
            return _loss.PerSample(x);
        }

        private (Tensor Values, Tensor Gradient) Differentiate(Tensor x, Tensor? cotangent) => Vjp.Of(
            leaf =>
            {
                var values = _loss.PerSample(leaf);
                if (values.shape is not [var n] || n != leaf.shape[0])
                    throw new InvalidDataException($"The loss has shape [{string.Join(", ", values.shape)}] for {leaf.shape[0]} samples; expected [{leaf.shape[0]}], one for each.");
                return values.requires_grad ? values : throw new NoGradientException("The loss has no gradient with respect to the picture.");
            },
            x,
            cotangent);

        private double Sum(Tensor direction, double step)
        {
            using var scope = NewDisposeScope();
            using var by = step.ToScalar();
            return Host(Values(_x.add(direction.to(_x.dtype), by))).Sum();
        }

        private static double[] Host(Tensor values)
        {
            using var scope = NewDisposeScope();
            return values.detach().to(ScalarType.Float64).cpu().data<double>().ToArray();
        }

        private static ScalarType Narrower(ScalarType a, ScalarType b) => Width(a) <= Width(b) ? a : b;

        private static int Width(ScalarType type) => type switch { ScalarType.Float64 => 8, ScalarType.Float32 => 4, _ => 2 };

        private static string Text(double value) => value.ToString("g4", CultureInfo.InvariantCulture);
    }
}
