namespace AdjointDpm.Gradients;

/// <summary>What a solve cost. An evaluation is one call of the field; a guided evaluation counts once, as papers count it.</summary>
public sealed record SolveStatistics
{
    /// <summary>Sampler steps; of an adaptive sampler, those accepted.</summary>
    public int Steps { get; init; }

    /// <summary>Steps that an adaptive sampler tried and rejected.</summary>
    public int Rejected { get; init; }

    /// <summary>Steps that an adaptive backward solve accepted.</summary>
    public int BackwardSteps { get; init; }

    /// <summary>Steps that an adaptive backward solve tried and rejected.</summary>
    public int BackwardRejected { get; init; }

    /// <summary>Evaluations from noise to sample.</summary>
    public int ForwardNfe { get; init; }

    /// <summary>Evaluations of the backward sweep.</summary>
    public int BackwardNfe { get; init; }

    /// <summary>Vector–Jacobian products.</summary>
    public int Vjps { get; init; }

    /// <summary>Evaluations made once more without a vector–Jacobian product: to have states back, to find an adaptive sampler's steps, or to look for undeclared inputs.</summary>
    public int Recomputed { get; init; }

    /// <summary>Tensors that were put into main memory until the way back came to them: of states, and of predictions that a later stage reads.</summary>
    public int Offloaded { get; init; }

    /// <summary>Most tensors that the calling thread held at once, above those it held before.</summary>
    public long PeakLiveTensors { get; init; }

    /// <summary>Most bytes in use on the native heap at an evaluation with a graph, above those before; null where the C library does not tell.</summary>
    /// <remarks>Counts the whole process: other work at the same time shows in it. The peak inside a backward pass is somewhat higher: <see cref="MemoryModel"/> predicts that one.</remarks>
    public long? PeakLiveBytes { get; init; }

    /// <summary>Time from noise to sample.</summary>
    public TimeSpan Forward { get; init; }

    /// <summary>Time of the loss and its gradient.</summary>
    public TimeSpan Loss { get; init; }

    /// <summary>Time of the backward sweep.</summary>
    public TimeSpan Backward { get; init; }

    /// <summary>What the method knows to be doubtful about the result, in words: for instance that a step is too coarse for the continuous adjoint. Empty when nothing is.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}
