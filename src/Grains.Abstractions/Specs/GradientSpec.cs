using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>Gradient method.</summary>
public sealed record GradientSpec
{
    /// <summary>Which gradient. Default: discrete.</summary>
    public GradientName Method { get; init; } = GradientName.Discrete;

    /// <summary>Most states stored at once, for checkpointed. Required there.</summary>
    [Range(1, 1_000_000)]
    public int? Slots { get; init; }

    /// <summary>Steps differentiated, for truncated, required there. Most of them, for alignprop, default: all. Of how many last steps one is drawn, for refl, default: a quarter. Last steps that are always matched, for adjoint-matching, default: all.</summary>
    [Range(1, 1_000_000)]
    public int? Last { get; init; }

    /// <summary>Noisings of the finished sample, for low-variance. Default: 2.</summary>
    [Range(1, 1024)]
    public int? Noisings { get; init; }

    /// <summary>Order of adjoint-deis: 1, or 2 for the multistep method. Default: 1.</summary>
    [Range(1, 2)]
    public int? Order { get; init; }

    /// <summary>The proof of the gradient that every trial begins with.</summary>
    public ProofSpec Check { get; init; } = new();

    /// <summary>Factor of the reward against the divergence from the frozen model, for adjoint-matching. Default: 1.</summary>
    [Range(1e-9, 1e9)]
    public double? RewardScale { get; init; }
}

/// <summary>The proof of the gradient: on a few samples, in float64, against the unrolled gradient and against finite differences.</summary>
public sealed record ProofSpec
{
    /// <summary>Whether and what for. Default: on.</summary>
    public ProofMode Mode { get; init; } = ProofMode.On;

    /// <summary>Samples that it is made on; the unrolled gradient holds all their activations. Default: 1.</summary>
    [Range(1, 1024)]
    public int Samples { get; init; } = 1;

    /// <summary>Steps of the sampler in the proof. Default: sample.steps.</summary>
    [Range(1, 1000)]
    public int? Steps { get; init; }

    /// <summary>Least cosine to the unrolled gradient that an approximate method may have. Default: 0.99.</summary>
    [Range(-1.0, 1.0)]
    public double MinCosine { get; init; } = 0.99;

    /// <summary>Largest distance from 1 of an approximate method's norm over the unrolled gradient's. Default: 0.1.</summary>
    [Range(0.0, 1e6)]
    public double MaxNormError { get; init; } = 0.1;
}

/// <summary>What a proof of the gradient is for.</summary>
public enum ProofMode
{
    /// <summary>Every trial begins with it and records it. A method that claims to be exact and is not fails the trial; an approximate one is noted.</summary>
    On,

    /// <summary>No proof.</summary>
    Off,

    /// <summary>The proof alone, group by group, without training: what 'adpm check' asks for.</summary>
    Only,
}

/// <summary>Gradient methods a spec may name.</summary>
public enum GradientName
{
    /// <summary>Adjoint of the discrete sampler: equals automatic differentiation through it.</summary>
    Discrete,

    /// <summary>Automatic differentiation through the unrolled sampler; stores every activation.</summary>
    StoreAll,

    /// <summary>The continuous adjoint of AdjointDPM: approximate, its error shrinks with the step.</summary>
    Continuous,

    /// <summary>The discrete adjoint with few states stored ('slots') and the others walked again: the same bits as discrete.</summary>
    Checkpointed,

    /// <summary>The discrete adjoint of the last steps only ('last'): DRaFT-K.</summary>
    Truncated,

    /// <summary>The gradient of the last step, averaged over noisings of the sample ('noisings'): DRaFT-LV.</summary>
    LowVariance,

    /// <summary>The discrete adjoint of a reversible sampler, which stores no states.</summary>
    Reversible,

    /// <summary>The discrete adjoint of a random number of last steps, up to 'last', drawn for each shard: AlignProp.</summary>
    [JsonStringEnumMemberName("alignprop")]
    AlignProp,

    /// <summary>The gradient of one step, from a random one of the 'last' steps straight to the sample: ReFL.</summary>
    [JsonStringEnumMemberName("refl")]
    ReFL,

    /// <summary>Adjoint matching ('rewardScale'): a regression of the control onto the lean adjoint; for memoryless samplers.</summary>
    AdjointMatching,

    /// <summary>AdjointDEIS ('order'): a continuous adjoint of the probability flow or, along their own noise, of stochastic samplers.</summary>
    AdjointDeis,

    /// <summary>The discrete adjoint with its states in main memory: the same bits as discrete, and one state on the device.</summary>
    Offloaded,

    /// <summary>Whatever exact method fits into <c>resources.memory</c> with the fewest evaluations, with recomputed blocks, the decoder's slices and tiles, fused attention and offloaded states as far as they are needed: found when the experiment is submitted, and written into it.</summary>
    Auto,
}
