using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Plain automatic differentiation through the unrolled sampler.</summary>
internal sealed class StoreAll() : GradientMethod("store-all")
{
    public override bool IsExact => true;

    internal override Sweep Begin(Solve solve) => new Unrolled(solve);

    private sealed class Unrolled(Solve solve) : Sweep
    {
        private Tensor? _noise;
        private Tensor? _sample;
        private readonly List<(int Step, int Point, Tensor Y)> _states = [];

        public override Tensor Forward()
        {
            solve.Leaves!.Arm();
            using var grad = enable_grad();
            _noise = solve.Request.Noise.detach().requires_grad_();
            _sample = solve.AtEnd(solve.Walk(solve.Start(_noise), solve.EvaluateWithGraph, Keep).Y);
            return _sample;
        }

        public override Tensor Backward(Tensor gradient)
        {
            List<(Tensor, Tensor)> outputs = [(_sample!, gradient)];
            foreach (var (step, point, y) in _states)
            {
                using var scale = solve.Scale(step).ToScalar();
                if (solve.OwnGradient(point, y.mul(scale)) is { } own)
                    outputs.Add((y, own.mul(scale)));
            }

            Vjp.Accumulate(outputs, [_noise!, .. _states.Select(s => s.Y), .. solve.Leaves!.Inputs]);
            foreach (var (step, point, y) in _states)
            {
                using var back = (1 / solve.Scale(step)).ToScalar();
                solve.KeepStateGradient(point, y.grad?.mul(back));
            }

            solve.CountUnrolled();
            return _noise!.grad ?? zeros_like(_noise);
        }

        private bool Keep(SamplerState state)
        {
            var point = solve.IsMet(state.Step) ? solve.Requested(state.Step) : null;
            if (point is { } met)
                _states.Add((state.Step, met, state.Y));
            return point is not null;
        }
    }
}
