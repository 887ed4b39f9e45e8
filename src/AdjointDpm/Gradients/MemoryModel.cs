using System.Collections.Immutable;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Predicts the peak memory of a gradient before it is computed, for any number of steps and any method.</summary>
/// <remarks>
/// <para>peak = states + max(loss, products), with products = g + p for methods that hold one network graph at a time, and the larger of (N − 1) G + p and (N − 2) G + g + p for <see cref="GradientMethod.StoreAll"/>: g is the inputs' gradients, G a network graph, p the peak of an evaluation with its product.
/// G, g, p and the loss are measured, with a few evaluations at the first step. States are measured by running the method itself with a network that predicts zero.</para>
/// <para>What changes from step to step inside a predictor is not seen. Measured is main memory, by the kernel's high-water mark: on Linux with glibc 2.33 or later, and on the CPU only, because TorchSharp 0.107 has no statistics of GPU memory.
/// Tensors kept for the way back are of the same sizes on every device; workspaces are not.</para>
/// </remarks>
public sealed class MemoryModel
{
    private readonly SampleRequest _request;
    private readonly Objective _objective;
    private readonly NetworkFootprint _network;

    private MemoryModel(SampleRequest request, Objective objective, NetworkFootprint network) => (_request, _objective, _network) = (request, objective, network);

    /// <summary>Bytes that one evaluation of the network keeps for its way back.</summary>
    public long NetworkGraph => _network.Graph;

    /// <summary>Bytes of the accumulated gradients of the declared inputs that the network reads.</summary>
    public long InputGradients => _network.Gradients;

    /// <summary>Measures one evaluation of a request's field and of the loss.</summary>
    /// <param name="request">What would be differentiated. Nothing else may run in the process meanwhile: its allocations would be counted.</param>
    /// <param name="loss">Scalar loss of x_0; evaluated at x_T.</param>
    /// <exception cref="NotSupportedException">The noise is not on the CPU, the system does not tell how much was in use, or the sampler is adaptive.</exception>
    public static MemoryModel Measure(SampleRequest request, Func<Tensor, Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        return Measure(request, new Objective { OnSample = loss });
    }

    /// <summary>The same for an objective of several losses.</summary>
    /// <param name="request">What would be differentiated. Nothing else may run in the process meanwhile: its allocations would be counted.</param>
    /// <param name="objective">Losses; each is evaluated at x_T.</param>
    /// <exception cref="NotSupportedException">The noise is not on the CPU, the system does not tell how much was in use, or the sampler is adaptive.</exception>
    public static MemoryModel Measure(SampleRequest request, Objective objective)
    {
        ArgumentNullException.ThrowIfNull(objective);
        Sampling.Validate(request);
        objective.Validate(request);
        if (request.Sampler is AdaptiveSampler)
            throw new NotSupportedException($"Sampler '{request.Sampler.Name}' finds its steps as it runs, so their number is not known before. Plan for a fixed grid of as many steps with a Runge–Kutta sampler.");
        if (request.Noise.device_type != DeviceType.CPU)
            throw new NotSupportedException($"The noise is on {request.Noise.device}, whose memory cannot be measured: TorchSharp has no statistics of it. Measure with the network and the noise on the CPU; the tensors kept for the way back are of the same sizes there.");
        if (!HighWater.Supported)
            throw new NotSupportedException("The system does not tell how much was in use: Linux with glibc 2.33 or later and a writable /proc/self/clear_refs is needed.");
        // The field that predicts zero holds the input, the prediction and their cotangents too: what is left is the network's own.
        return new(request, objective, NetworkFootprint.Of(request, objective) - NetworkFootprint.Of(WithoutNetwork(request), WithoutLosses(objective)));
    }

    /// <summary>What a method will hold and cost. Runs it without the network, so that it takes as long as the sampler's own arithmetic.</summary>
    /// <param name="method">Method to plan.</param>
    /// <param name="grid">Grid to plan for. Default: the request's.</param>
    /// <exception cref="NotSupportedException">The method cannot serve this sampler or objective; the message says which does.</exception>
    public MemoryPlan Plan(GradientMethod method, TimeGrid? grid = null)
    {
        ArgumentNullException.ThrowIfNull(method);
        var request = WithoutNetwork(_request) with { Grid = grid ?? _request.Grid, Progress = HighWater.Collecting };
        SolveStatistics? cost = null;
        var states = long.MaxValue;
        // Once for what is set up once, and then the less of two.
        Differentiate();
        for (var round = 0; round < 2; round++)
            states = Math.Min(states, HighWater.Of(Differentiate));

        var (n, plan) = (cost!.Vjps, new MemoryPlan { Method = method, States = states, Evaluations = cost.ForwardNfe + cost.BackwardNfe });
        var (graphs, back) = method is StoreAll ? (n * _network.Graph, _network.Unrolled.Highest(n, _network.Gradients, _network.Graph)) : (0, _network.Pull.Highest(n, _network.Gradients));
        if (method is StoreAll)
            plan = plan with { Evaluations = plan.Evaluations + cost.Recomputed };
        var moments = new[]
        {
            plan with { NetworkGraphs = back - _network.Gradients, InputGradients = _network.Gradients },
            plan with { NetworkGraphs = _network.Check, InputGradients = _network.Gradients },
            plan with { NetworkGraphs = graphs, LossGraph = _network.Loss },
            plan with { NetworkGraphs = graphs, LossGraph = _network.StateLoss, InputGradients = method is StoreAll ? 0 : _network.Gradients },
        };
        return moments.MaxBy(m => m.PeakBytes)!;

        void Differentiate()
        {
            using var scope = NewDisposeScope();
            using var result = Sampling.Differentiate(request, WithoutLosses(_objective), method);
            cost = result.Statistics;
        }
    }

    /// <summary>The exact method with the fewest evaluations that fits: <see cref="GradientMethod.StoreAll"/>, else <see cref="GradientMethod.Discrete"/>, else <see cref="GradientMethod.Reversible"/> where the sampler is, else <see cref="GradientMethod.Checkpointed"/> with as many slots as fit.</summary>
    /// <param name="budget">Bytes above what is held before the run.</param>
    /// <param name="grid">Grid to plan for. Default: the request's.</param>
    /// <exception cref="InsufficientMemoryException">No exact method fits; says the smallest budget that would do, and with which method.</exception>
    public MemoryPlan Choose(long budget, TimeGrid? grid = null)
    {
        List<GradientMethod> methods = [GradientMethod.StoreAll, GradientMethod.Discrete];
        if (_request.Sampler is ReversibleSampler)
            methods.Add(GradientMethod.Reversible);
        foreach (var method in methods)
        {
            if (Plan(method, grid) is var plan && plan.PeakBytes <= budget)
                return plan;
        }

        var (best, failing) = (Plan(GradientMethod.Checkpointed(1), grid), (grid ?? _request.Grid).Steps);
        if (best.PeakBytes > budget)
        {
            throw new InsufficientMemoryException(FormattableString.Invariant(
                $"No exact gradient of {failing} steps fits in {budget:n0} bytes. The least is {best.PeakBytes:n0} bytes, by {best.Method}: {best.NetworkGraphs:n0} for the network, {best.LossGraph:n0} for the loss, {best.InputGradients:n0} for gradients of inputs, {best.States:n0} for states. Use a smaller batch, fewer declared inputs, or that budget."));
        }

        for (var slots = 1; failing - slots > 1;)
        {
            var middle = (slots + failing) / 2;
            if (Plan(GradientMethod.Checkpointed(middle), grid) is var plan && plan.PeakBytes <= budget)
                (best, slots) = (plan, middle);
            else
                failing = middle;
        }

        return best;
    }

    private static SampleRequest WithoutNetwork(SampleRequest request) =>
        request with { Field = NoiseField.From((x, _) => x.mul(Rooted.Zero)) with { Prediction = request.Field.Prediction } };

    private static Objective WithoutLosses(Objective objective) => objective with
    {
        OnSample = objective.OnSample is null ? null : x => x.sum(),
        OnStates = objective.OnStates.ToImmutableSortedDictionary(p => p.Key, p => (Func<Tensor, Tensor>)(x => x.sum())),
    };
}
