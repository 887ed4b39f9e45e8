using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The gradient of the last step, averaged over several noisings of the finished sample: DRaFT-LV.</summary>
internal sealed class LowVariance : GradientMethod
{
    private static readonly Discrete Last = new("truncated(1)", last: 1);
    private readonly int _noisings;

    public LowVariance(int noisings)
        : base($"low-variance({noisings})")
    {
        // Their draws are numbered down from the last number, those of samplers up from the first.
        if (noisings is < 1 or > 1024)
            throw new ArgumentOutOfRangeException(nameof(noisings), noisings, "The number of noisings must be from 1 to 1024.");
        _noisings = noisings;
    }

    internal override bool WalksWithoutGraph => true;

    internal override Sweep Begin(Solve solve)
    {
        var from = solve.Request.Grid.Points[^2];
        if (solve.Objective is not { OnSample: not null, OnStates.IsEmpty: true })
            throw new NotSupportedException($"Method '{Name}' evaluates the loss on other samples too, so it needs a loss of the sample, and of nothing else. Use GradientMethod.Truncated(1).");
        if (!double.IsFinite(from.Rho))
            throw new NotSupportedException($"Method '{Name}' noises the sample up to the last step's start, which on this grid is pure noise. Use more than one step.");
        return new Noisings(solve, Last.Begin(solve), _noisings);
    }

    private sealed class Noisings(Solve solve, Sweep own, int noisings) : Sweep
    {
        private Tensor? _sample;

        public override double SampleWeight => 1.0 / (1 + noisings);

        public override Tensor Forward() => _sample = own.Forward();

        public override Tensor Backward(Tensor gradient)
        {
            var noise = own.Backward(gradient);
            for (var i = 0; i < noisings; i++)
            {
                solve.ThrowIfCancelled();
                Add(i);
            }

            return noise;
        }

        // In y = x / α the forward process adds noise: y' = y + √(ρ'² − ρ²) ε. Up to the last step's start, back by one step of DDIM, and the loss there.
        private void Add(int index)
        {
            using var scope = NewDisposeScope();
            var grid = solve.Request.Grid;
            var step = grid.Steps - 1;
            var (from, to) = (grid.Points[step], grid.Points[step + 1]);
            var (key, first) = (solve.Request.Key, solve.Request.FirstSample);
            var draw = CounterNoise.Normal(key with { Draw = (ushort)(ushort.MaxValue - 1 - index) }, _sample!.shape, _sample.dtype, _sample.device, first);
            var toX = Coordinates.Rho.Scale(to.Level);
            var noised = default(Sum);
            noised.Add(_sample, 1 / toX);
            noised.Add(draw, Math.Sqrt((from.Rho * from.Rho) - (to.Rho * to.Rho)));
            var y = noised.Take();

            var plan = Sampler.Ddim.Plan(grid, step);
            var (evaluation, next) = (plan.Evaluations[0], Stepping.Apply(plan, new(step, [y], key, first), solve.EvaluateAgain(step)).Y);
            var cotangent = solve.LossGradient(solve.Objective!.OnSample!, next.Times(toX), SampleWeight, counted: false);
            var weight = plan.Next[0].Where(term => term.Source == TermSource.Evaluation).Sum(term => term.Weight);
            solve.Pull(step, y.Times(evaluation.Scale), evaluation.At, evaluation.As, cotangent.Times(toX * weight));
        }
    }
}
