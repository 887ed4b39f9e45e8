using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Bytes that one evaluation of a field and one of the losses take, each above what is held before it.</summary>
/// <param name="Gradients">Accumulated gradients of the inputs that the network reads.</param>
/// <param name="Graph">What an evaluation with its graph leaves behind.</param>
/// <param name="Unrolled">Peak of one graph, all terms of the field together, and of going back through it.</param>
/// <param name="Pull">Peak of one evaluation with its product, one term of the field at a time.</param>
/// <param name="Loss">Peak of the loss on the sample with its gradient.</param>
/// <param name="StateLoss">Largest peak of a loss on a state.</param>
/// <param name="Check">Peak of looking the inputs' gradients over.</param>
internal sealed record NetworkFootprint(long Gradients, long Graph, ProductPeaks Unrolled, ProductPeaks Pull, long Loss, long StateLoss, long Check)
{
    // The runtime allocates now and then too, which only ever adds: the least of several counts.
    private const int Rounds = 3;

    /// <summary>What a network takes beyond one that takes nothing.</summary>
    public static NetworkFootprint operator -(NetworkFootprint a, NetworkFootprint b) => new(
        a.Gradients - b.Gradients, Math.Max(0, a.Graph - b.Graph), a.Unrolled - b.Unrolled, a.Pull - b.Pull, Math.Max(0, a.Loss - b.Loss), Math.Max(0, a.StateLoss - b.StateLoss), Math.Max(0, a.Check - b.Check));

    /// <summary>Measures at the first evaluation of a request.</summary>
    public static NetworkFootprint Of(SampleRequest request, Objective objective)
    {
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        using var leaves = new BorrowedLeaves(request.Field);
        using var solve = new Solve(request, guarded: false, CancellationToken.None) { Leaves = leaves, Objective = objective, OnlyMeasures = true };
        leaves.Arm();
        var noise = request.Noise.detach();
        var (state, first) = (solve.Start(noise), solve.Plans[0].Evaluations[0]);
        var cotangent = ones_like(noise);
        // What libtorch sets up once is no part of any peak.
        Pull();
        var gradients = leaves.Inputs.Sum(i => i.grad is { } g ? g.numel() * g.ElementSize : 0);
        var (graph, check) = (long.MaxValue, Least(() => leaves.FirstNonFinite()));
        var unrolled = Twice(Unrolled);
        return new(gradients, graph, unrolled, Twice(() => HighWater.Of(Pull)), objective.OnSample is { } loss ? LossPeak(loss) : 0, objective.OnStates.Values.Select(LossPeak).DefaultIfEmpty(0).Max(), check);

        Tensor Input(Tensor y) => new StepTensors(solve.Plans[0], state with { Slots = [y] }).Input(0);

        void Pull()
        {
            using var inner = NewDisposeScope();
            solve.Pull(0, Input(state.Y), first.At, first.As, cotangent);
        }

        // In one measurement: what the graph frees on the way back makes room for gradients.
        long Unrolled() => HighWater.Of(() =>
        {
            using var inner = NewDisposeScope();
            var leaf = noise.detach().requires_grad_();
            var before = NativeHeap.InUse()!.Value;
            // The sum holds the graph without the prediction itself, as the sampler's next state does.
            var total = Traced(leaf);
            graph = Math.Min(graph, NativeHeap.InUse()!.Value - before);
            Vjp.Accumulate(total, ones_like(total), [leaf, .. leaves.Inputs]);
        });

        Tensor Traced(Tensor leaf)
        {
            using var inner = NewDisposeScope();
            using var tracing = enable_grad();
            return request.Field.Evaluate(Input(leaf), first.At, first.As).sum().MoveToOuterDisposeScope();
        }

        long LossPeak(Func<Tensor, Tensor> of)
        {
            solve.LossGradient(of, noise).Dispose();
            return Least(() => solve.LossGradient(of, noise).Dispose());
        }

        long Least(Action work) => Enumerable.Range(0, Rounds).Min(_ => HighWater.Of(work));

        ProductPeaks Twice(Func<long> peak)
        {
            var least = new ProductPeaks(long.MaxValue, long.MaxValue);
            for (var round = 0; round < Rounds; round++)
            {
                Forget();
                least = new(Math.Min(least.First, peak()), Math.Min(least.Later, peak()));
            }

            Forget();
            return least;
        }

        void Forget()
        {
            foreach (var input in leaves.Inputs)
            {
                input.grad?.Dispose();
                input.grad = null;
            }
        }
    }
}

/// <summary>Peaks of vector–Jacobian products, above what is held before them.</summary>
/// <param name="First">Of the first one, which makes the inputs' gradients.</param>
/// <param name="Later">Of one that adds to them.</param>
internal readonly record struct ProductPeaks(long First, long Later)
{
    public static ProductPeaks operator -(ProductPeaks a, ProductPeaks b) => new(Math.Max(0, a.First - b.First), Math.Max(0, a.Later - b.Later));

    /// <summary>The highest moment of so many products, where each one holds the graphs, of so many bytes, of those still to come.</summary>
    public long Highest(int products, long gradients, long graph = 0) =>
        products == 0 ? 0 : Math.Max(((products - 1) * graph) + First, products == 1 ? 0 : ((products - 2) * graph) + gradients + Later);
}
