namespace AdjointDpm.Gradients;

/// <summary>What <see cref="Sampling.Differentiate(Samplers.SampleRequest, Objective, GradientMethod?, CancellationToken)"/> will hold at its highest moment, above what is held before it, and how often it will evaluate the network. Bytes of main memory.</summary>
/// <remarks>Made by <see cref="MemoryModel.Plan"/>. The parts add up to <see cref="PeakBytes"/>.</remarks>
public sealed record MemoryPlan
{
    /// <summary>Method that was planned.</summary>
    public required GradientMethod Method { get; init; }

    /// <summary>States: stored ones, kept gradients of states, and the tensors of the step under way.</summary>
    public long States { get; init; }

    /// <summary>The network: activations kept for the way back, and what a vector–Jacobian product, or the check of its result, takes while it runs.</summary>
    public long NetworkGraphs { get; init; }

    /// <summary>The loss with its graph, its decoder included; 0 where the way back through the network is the highest moment.</summary>
    public long LossGraph { get; init; }

    /// <summary>Accumulated gradients of the declared inputs; 0 where the loss on the sample is the highest moment.</summary>
    public long InputGradients { get; init; }

    /// <summary>All parts.</summary>
    public long PeakBytes => States + NetworkGraphs + LossGraph + InputGradients;

    /// <summary>Evaluations on both ways, those made again included.</summary>
    public int Evaluations { get; init; }
}
