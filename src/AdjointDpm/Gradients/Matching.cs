using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>One computation of adjoint matching.</summary>
/// <param name="options">What is matched.</param>
/// <param name="solve">The finetuned field; counts its evaluations.</param>
/// <param name="lean">The base field.</param>
/// <param name="sampled">The field that draws the trajectories, maybe the finetuned one.</param>
/// <param name="leaves">Declared inputs of the finetuned field.</param>
internal sealed class Matching(AdjointMatching options, Solve solve, Solve lean, Solve sampled, BorrowedLeaves leaves)
{
    private readonly ControlledStep[] _steps = [.. solve.Plans.Select(p => ControlledStep.Of(p, solve.Request.Sampler))];
    private readonly SamplerState[] _states = new SamplerState[solve.Plans.Length];
    private readonly Tensor?[] _predictions = new Tensor?[solve.Plans.Length];
    // v + s a of the matched steps, and ½ of its square of each sample.
    private readonly Dictionary<int, (Tensor Residual, Tensor Loss)> _matched = [];
    private readonly List<Tensor> _trajectory = [], _adjoints = [];
    private double _divergence;

    private long Samples => solve.Request.Noise.shape[0];

    /// <summary>Loss and gradients; null if something is not finite.</summary>
    public MatchingGradients? Run(Func<Tensor, Tensor> reward)
    {
        var chosen = options.Choose([.. Enumerable.Range(0, _steps.Length).Where(n => _steps[n].OfDraw != 0)], solve.Request.Key);
        if (chosen.Count == 0)
            throw new NotSupportedException("No step of this grid draws noise, so none can be controlled. Use a grid of more than one step, or one that ends above rho = 0.");
        var weights = chosen.ToDictionary(c => c.Step, c => c.Weight);
        var sample = solve.Timed(SolvePhase.Forward, () => Sample(weights));
        if (!Solve.IsFinite(sample))
            return null;
        var (rewards, gradient) = solve.Timed(null, () => Reward(reward, sample));
        solve.Timed(SolvePhase.Backward, () => Lean(gradient, weights));
        var (kept, threshold, clipped) = Clip();
        var loss = _matched.Sum(m => weights[m.Key] * Mean(m.Value.Loss.mul(kept[m.Key])));
        leaves.Arm();
        RefuseSharedInputs();
        solve.Timed(SolvePhase.Backward, () => Regress(weights, kept));
        if (!double.IsFinite(loss) || leaves.FirstNonFinite() is not null)
            return null;
        var (inputs, unreached) = leaves.Collect();
        return new(loss, _divergence, rewards.MoveToOuterDisposeScope(), sample.MoveToOuterDisposeScope(), inputs, unreached, [.. chosen.Select(c => c.Step)], threshold, clipped, Statistics())
        {
            States = Outwards(_trajectory),
            Adjoints = Outwards(_adjoints),
        };
    }

    private Tensor Sample(Dictionary<int, double> matched)
    {
        var own = ReferenceEquals(sampled, solve);
        var end = sampled.Walk(
            sampled.Start(solve.Request.Noise.detach()),
            sampled.Evaluate,
            state => (_states[state.Step] = state) is not null,
            (step, _, prediction) => _predictions[step] = own && matched.ContainsKey(step) ? prediction.detach().MoveToOuterDisposeScope() : null);
        if (options.KeepTrajectory)
            _trajectory.AddRange([.. _states.Select((s, n) => s.Y.Times(solve.Scale(n))), solve.AtEnd(end.Y)]);
        return solve.AtEnd(end.Y);
    }

    private (Tensor Rewards, Tensor Gradient) Reward(Func<Tensor, Tensor> reward, Tensor sample)
    {
        var (rewards, gradient) = Vjp.Of(
            x =>
            {
                var value = reward(x);
                if (!value.shape.AsSpan().SequenceEqual([Samples]))
                    throw new ArgumentException($"The reward must be one number for each of {Samples} samples, but has shape [{string.Join(", ", value.shape)}]. Reduce it over all axes but the first.", nameof(reward));
                return value.requires_grad ? value : throw new ArgumentException("The reward does not depend on the sample: it was detached, or computed without gradients.", nameof(reward));
            },
            sample,
            cotangent: null);
        if (!Solve.IsFinite(rewards))
            throw new NonFiniteException("reward");
        return Solve.IsFinite(gradient) ? (rewards, gradient) : throw new NonFiniteException("gradient of the reward with respect to the sample");
    }

    // From the sample back to the noise: a = (∂y'/∂y)ᵀ a' of the base model. Its predictions serve the controls too.
    private bool Lean(Tensor gradient, Dictionary<int, double> weights)
    {
        var a = solve.AtEnd(gradient.Times(-options.RewardScale));
        Keep(_steps.Length, a);
        for (var n = _steps.Length - 1; n >= 0; n--)
        {
            solve.ThrowIfCancelled();
            Tensor before;
            using (NewDisposeScope())
            {
                var step = _steps[n];
                var x = _states[n].Y.Times(step.Scale);
                var (ofBase, ofX) = lean.Pull(n, x, step.At, step.As, a.Times(step.OfPrediction));
                if (weights.TryGetValue(n, out var weight))
                {
                    var prediction = _predictions[n] ?? Predict(n, x);
                    var control = prediction.sub(ofBase).Times(step.OfPrediction / step.OfDraw);
                    var residual = control.Plus(a.Times(step.OfDraw));
                    _divergence += weight * Mean(HalfSquare(control));
                    _matched[n] = (residual.MoveToOuterDisposeScope(), HalfSquare(residual).MoveToOuterDisposeScope());
                }

                _predictions[n]?.Dispose();
                before = a;
                a = a.Times(step.OfState).Plus(ofX.Times(step.Scale)).MoveToOuterDisposeScope();
            }

            before.Dispose();
            Keep(n, a);
            if (!_matched.ContainsKey(n))
                Solve.Release(_states[n]);
            solve.Report(_steps.Length - n);
        }

        return true;
    }

    // Where another field drew the trajectory. The first time also looks for undeclared inputs.
    private Tensor Predict(int n, Tensor x)
    {
        if (_matched.Count > 0)
            return solve.EvaluateAgain(n)(0, x, _steps[n].At, _steps[n].As);
        solve.CountProbe();
        return solve.EvaluateLookingForUndeclared(x, _steps[n].At, _steps[n].As, n).detach();
    }

    // 1 for what counts, 0 for what is left out, [B] of each matched step.
    private (Dictionary<int, Tensor> Kept, double? Threshold, int Clipped) Clip()
    {
        double? quantile = null;
        if (options.ClipQuantile is { } q)
            quantile = cat([.. _matched.Values.Select(m => Norm(m.Loss))], 0).quantile(tensor(q, solve.Request.Noise.dtype, solve.Request.Noise.device)).Number();

        if ((options.ClipAbove ?? quantile) is not { } most)
            return (_matched.ToDictionary(m => m.Key, m => ones_like(m.Value.Loss)), null, 0);
        using var above = most.ToScalar();
        var kept = _matched.ToDictionary(m => m.Key, m => Norm(m.Value.Loss).lt(above).to_type(m.Value.Loss.dtype));
        return (kept, quantile, (int)Math.Round(kept.Values.Sum(k => Samples - k.sum().Number())));

        static Tensor Norm(Tensor halfSquare) => halfSquare.mul(Rooted.Two).sqrt();
    }

    private bool Regress(Dictionary<int, double> weights, Dictionary<int, Tensor> kept)
    {
        foreach (var (n, (residual, _)) in _matched)
        {
            solve.ThrowIfCancelled();
            using var scope = NewDisposeScope();
            var step = _steps[n];
            var ofSamples = kept[n].Times(weights[n] * step.OfPrediction / step.OfDraw / Samples).reshape([Samples, .. Enumerable.Repeat(1L, (int)residual.dim() - 1)]);
            solve.Pull(n, _states[n].Y.Times(step.Scale), step.At, step.As, residual.mul(ofSamples));
            residual.Dispose();
            Solve.Release(_states[n]);
        }

        return true;
    }

    // The control is the difference to the base model: one that reads what is finetuned moves with it.
    private void RefuseSharedInputs()
    {
        using var scope = NewDisposeScope();
        Tensor prediction;
        using (enable_grad())
            prediction = options.BaseField.Evaluate(solve.Request.Noise.detach(), solve.Request.Grid.Start, _steps[0].As);
        lean.CountProbe();
        Vjp.Accumulate(prediction, ones_like(prediction), leaves.Inputs);
        var shared = solve.Request.Field.Inputs.FirstOrDefault(i => i.Value.grad is not null).Name;
        if (shared is not null)
            throw new ArgumentException($"The base field reads input '{shared}', which is finetuned, so the two could never differ. Give it weights of its own, or the network without its adapter.");
    }

    private SolveStatistics Statistics()
    {
        var (own, ofBase) = (solve.Statistics(), lean.Statistics());
        return own with
        {
            ForwardNfe = sampled.Statistics().ForwardNfe,
            BackwardNfe = own.BackwardNfe + ofBase.BackwardNfe,
            Vjps = own.Vjps + ofBase.Vjps,
            Recomputed = own.Recomputed + ofBase.Recomputed,
            PeakLiveTensors = Math.Max(own.PeakLiveTensors, ofBase.PeakLiveTensors),
            PeakLiveBytes = own.PeakLiveBytes is { } a && ofBase.PeakLiveBytes is { } b ? Math.Max(a, b) : null,
        };
    }

    // ∂/∂x at a point of the grid.
    private void Keep(int n, Tensor a)
    {
        if (options.KeepTrajectory)
            _adjoints.Insert(0, a.Times(1 / solve.Scale(n)));
    }

    private static Tensor HalfSquare(Tensor tensor) => tensor.mul(tensor).reshape(tensor.shape[0], -1).sum(1).Times(0.5);

    private static double Mean(Tensor tensor) => tensor.mean().to(ScalarType.Float64).Number();

    private static IReadOnlyList<Tensor> Outwards(List<Tensor> tensors) => [.. tensors.Select(t => t.MoveToOuterDisposeScope())];
}
