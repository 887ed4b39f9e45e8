using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Plain automatic differentiation through the unrolled sampler.</summary>
internal sealed class StoreAll() : GradientMethod("store-all")
{
    internal override Sweep Begin(Solve solve) => new Unrolled(solve);

    private sealed class Unrolled(Solve solve) : Sweep
    {
        private Tensor? _noise;
        private Tensor? _sample;

        public override Tensor Forward()
        {
            Probe();
            solve.Leaves!.Arm();
            using var grad = enable_grad();
            _noise = solve.Request.Noise.detach().requires_grad_();
            _sample = solve.AtEnd(solve.Walk(solve.Start(_noise), solve.EvaluateWithGraph).Y);
            return _sample;
        }

        public override Tensor Backward(Tensor gradient)
        {
            Vjp.Accumulate(_sample!, gradient, [_noise!, .. solve.Leaves!.Inputs]);
            solve.CountUnrolled();
            return _noise!.grad ?? zeros_like(_noise);
        }

        // Once armed, declared and undeclared tensors look alike: the search for undeclared ones costs an evaluation of its own.
        private void Probe()
        {
            using var scope = NewDisposeScope();
            var work = new StepTensors(solve.Plans[0], solve.Start(solve.Request.Noise.detach()));
            var first = solve.Plans[0].Evaluations[0];
            solve.EvaluateLookingForUndeclared(work.Input(0), first.At, first.As);
            solve.CountProbe();
        }
    }
}
