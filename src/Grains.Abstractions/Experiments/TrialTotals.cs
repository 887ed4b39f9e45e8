namespace AdjointDpm.Grains.Experiments;

/// <summary>What a trial has cost so far, counted once for each accepted piece of work. Times and memory are observations: others whenever it is done again.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialTotals")]
public sealed record TrialTotals
{
    /// <summary>Samples drawn.</summary>
    [Id(0)] public long Samples { get; init; }

    /// <summary>Evaluations of the network from noise to sample.</summary>
    [Id(1)] public long ForwardNfe { get; init; }

    /// <summary>Evaluations of the network from sample to noise.</summary>
    [Id(2)] public long BackwardNfe { get; init; }

    /// <summary>Vector–Jacobian products.</summary>
    [Id(3)] public long Vjps { get; init; }

    /// <summary>Most tensors that a shard held at once.</summary>
    [Id(4)] public long PeakLiveTensors { get; init; }

    /// <summary>Seconds of devices: sampling, loss and adjoint together.</summary>
    [Id(5)] public double WorkerSeconds { get; init; }

    /// <summary>Most bytes that a shard of a step held on the native heap above those before it; null where no worker tells.</summary>
    [Id(6)] public long? PeakLiveBytes { get; init; }

    /// <summary>Bytes that a shard's gradient was planned to hold above the weights, when the trial began; null for models that only a measurement can plan for.</summary>
    [Id(7)] public long? PlannedBytes { get; init; }

    /// <summary>Seconds of devices from noise to sample.</summary>
    [Id(8)] public double SampleSeconds { get; init; }

    /// <summary>Seconds of devices for losses and their gradients.</summary>
    [Id(9)] public double LossSeconds { get; init; }

    /// <summary>Seconds of devices from sample back to noise.</summary>
    [Id(10)] public double AdjointSeconds { get; init; }

    /// <summary>Where the trial's own time went, at its coordinator.</summary>
    [Id(11)] public TrialTimes Times { get; init; } = new();

    /// <summary>Machines that worked for it: processor or GPU, and how many threads there are.</summary>
    [Id(12)] public IReadOnlyList<string> Hardware { get; init; } = [];

    /// <summary>Evaluations from noise to sample in the steps of training alone, without proof and evaluations.</summary>
    [Id(13)] public long TrainingForwardNfe { get; init; }

    /// <summary>Evaluations from sample to noise in the steps of training.</summary>
    [Id(14)] public long TrainingBackwardNfe { get; init; }

    /// <summary>Seconds of devices for the steps of training.</summary>
    [Id(15)] public double TrainingSeconds { get; init; }
}

/// <summary>Seconds of a trial by what it waited for.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialTimes")]
public sealed record TrialTimes
{
    /// <summary>Loading the model and its parameters.</summary>
    [Id(0)] public double Load { get; init; }

    /// <summary>The proof of the gradient.</summary>
    [Id(1)] public double Prove { get; init; }

    /// <summary>Evaluations before, on the way and after.</summary>
    [Id(2)] public double Evaluate { get; init; }

    /// <summary>Shards' gradients.</summary>
    [Id(3)] public double Shards { get; init; }

    /// <summary>Adding them up.</summary>
    [Id(4)] public double Reduce { get; init; }

    /// <summary>The optimiser.</summary>
    [Id(5)] public double Optimize { get; init; }

    /// <summary>Commits of steps, as far as the next step's shards did not take as long.</summary>
    [Id(6)] public double Commit { get; init; }

    /// <summary>Pictures on the way.</summary>
    [Id(7)] public double Draw { get; init; }

    /// <summary>Results: pictures and the tuned model.</summary>
    [Id(8)] public double Save { get; init; }

    /// <summary>The parts by name, in the order of a trial.</summary>
    public IReadOnlyList<(string Name, double Seconds)> Parts() =>
        [("load", Load), ("proof", Prove), ("evaluate", Evaluate), ("shards", Shards), ("reduce", Reduce), ("optimise", Optimize), ("commit", Commit), ("pictures", Draw), ("save", Save)];
}
