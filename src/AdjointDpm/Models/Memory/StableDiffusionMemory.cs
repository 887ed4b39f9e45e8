using System.IO.Enumeration;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Memory;

/// <summary>What memory the gradient of a loss on Stable Diffusion's pictures will take, from configurations alone: no weights are read, nothing is computed.</summary>
/// <remarks>
/// Counted is what the library itself makes, operation by operation, by the formulas of libtorch's derivatives; tests hold it against measurements within a tenth.
/// Not counted are workspaces of a GPU's kernels, its context, and what its allocator keeps free: leave a tenth and a gigabyte of room there.
/// Guidance is by one call after the other always, so that one graph is there at a time.
/// </remarks>
public sealed record StableDiffusionMemory
{
    private const int StateBytes = sizeof(float);

    // Of the picture in float32: itself, its gradient, what a loss makes of it and of a reference.
    private const int PicturesInLoss = 5;

    /// <summary>The configurations of all parts.</summary>
    public required StableDiffusionConfig Config { get; init; }

    /// <summary>Height of the pictures in pixels, a multiple of the autoencoder's reduction.</summary>
    public required int Height { get; init; }

    /// <summary>Width of the pictures in pixels, likewise.</summary>
    public required int Width { get; init; }

    /// <summary>Steps of the sampler, one evaluation each. Default: 20.</summary>
    public int Steps { get; init; } = 20;

    /// <summary>Samples differentiated together. Default: 1.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>Dtype of the networks. Default: float32.</summary>
    public ScalarType Dtype { get; init; } = ScalarType.Float32;

    /// <summary>Whether classifier-free guidance is used: two evaluations where there is one. Default: true.</summary>
    public bool Guided { get; init; } = true;

    /// <summary>Patterns for the names of the weights that are trained or adapted. Default: none; the gradient of the noise alone.</summary>
    public IReadOnlyList<string> Trained { get; init; } = [];

    /// <summary>Rank of adapters; null where the weights themselves are trained. Default: null.</summary>
    public int? Rank { get; init; }

    /// <summary>Numbers in the diffusion network.</summary>
    public long UnetWeights() => Parameters(() => new UNet2DConditionModel(Config.Unet)).Sum(p => p.Count);

    /// <summary>What the model's weights take, and how many numbers are trained.</summary>
    public MemoryWeights Weights()
    {
        List<(string Name, long Count)> unet = Parameters(() => new UNet2DConditionModel(Config.Unet));
        var autoencoder = Parameters(() => new AutoencoderKL(Config.Autoencoder)).Sum(p => p.Count) * Element(IsVae: true);
        var texts = Config.TextEncoders.Sum(t => Parameters(() => new ClipTextModel(t)).Sum(p => p.Count)) * Element(IsVae: false);
        var trained = unet.Where(p => IsTrained(p.Name)).ToList();
        if (Trained.Count > 0 && trained.Count == 0)
            throw new ArgumentException($"No weight of the network matches {string.Join(", ", Trained)}. Its weights have names like '{unet[^1].Name}'.");
        var element = Element(IsVae: false);
        // Adapters keep the weights that they are added to.
        return new(unet.Sum(p => p.Count) * element, autoencoder, texts, Rank is null ? 0 : trained.Sum(p => p.Count) * element,
            trained.Sum(p => p.Count) * Math.Max(element, sizeof(float)), Rank is { } rank ? Adapters(rank) : trained.Sum(p => p.Count));
    }

    /// <summary>What one way of computing the gradient takes above the weights at its highest moment.</summary>
    /// <param name="way">How.</param>
    /// <param name="weights">From <see cref="Weights"/>.</param>
    /// <exception cref="ArgumentException">The pictures' size is no multiple of the autoencoder's reduction.</exception>
    public MemoryEstimate Estimate(MemoryWay way, MemoryWeights weights)
    {
        ArgumentNullException.ThrowIfNull(way);
        ArgumentNullException.ThrowIfNull(weights);
        var r = Config.Autoencoder.Reduction;
        if (Height <= 0 || Width <= 0 || Height % r != 0 || Width % r != 0)
            throw new ArgumentException($"Pictures of {Height} by {Width} pixels are no whole number of latents of {r} pixels. Choose multiples of {r}.");
        var (h, w) = (Height / r, Width / r);
        var state = (long)Batch * Config.Unet.InChannels * h * w * StateBytes;
        var blocks = new BlockTapes(Batch, Element(IsVae: false), way.Checkpointing, IsTrained, way.Fused);
        var unet = NetworkTapes.Unet(Config.Unet, blocks, h, w, Config.TextEncoders[0].MaxPositionEmbeddings);
        var terms = Guided ? 2 : 1;
        // Graphs of the steps before are there when the last one's peak comes.
        var all = way.Unrolled ? ((long)Steps * terms - 1) * unet.Graph : 0;
        var product = Math.Max(unet.Forward, unet.Backward);
        var states = (way switch { { Unrolled: true } => 4, { Offloaded: true } => 5, _ => Steps + 4L }) * state;
        var loss = Loss(way, h, w);
        var atLoss = new MemoryEstimate(way, states, way.Unrolled ? all + unet.Graph : 0, loss, 0, Evaluations(way));
        var onTheWay = new MemoryEstimate(way, states, all + product, 0, weights.GradientBytes, Evaluations(way));
        return atLoss.PeakBytes > onTheWay.PeakBytes ? atLoss : onTheWay;
    }

    /// <summary>Every way that is offered, from the one with the fewest evaluations to the one with the least memory.</summary>
    public IReadOnlyList<MemoryWay> Ways()
    {
        List<MemoryWay> ways = [new(Unrolled: true), new(Unrolled: true, Checkpointing: true), new(), new(Checkpointing: true)];
        if (Batch > 1)
            ways.Add(new(Checkpointing: true, Slicing: true));
        var tile = Config.Autoencoder.SampleSize.Values[0] / 2;
        if (tile >= 8 * Config.Autoencoder.Reduction && (Height > tile || Width > tile))
            ways.Add(new(Checkpointing: true, Slicing: Batch > 1, Tile: tile));
        ways.Add(ways[^1] with { Fused = true });
        ways.Add(ways[^1] with { Offloaded = true });
        return ways;
    }

    private long Loss(MemoryWay way, long height, long width)
    {
        var samples = way.Slicing ? 1 : Batch;
        var side = way.Tile is { } pixels ? Math.Max(1, pixels / Config.Autoencoder.Reduction) : int.MaxValue;
        var tape = NetworkTapes.Decoder(Config.Autoencoder, new BlockTapes(samples, Element(IsVae: true), way.Checkpointing, _ => false), Math.Min(height, side), Math.Min(width, side));
        // One sample or tile after the other is decoded again; without recomputation all graphs are there.
        var decoder = Math.Max(tape.Forward, tape.Backward);
        var picture = (long)Batch * Config.Autoencoder.OutChannels * Height * Width * StateBytes;
        return decoder + (PicturesInLoss * picture);
    }

    // Each sample's gradient takes a forward evaluation and one with its product; recomputed blocks run once more.
    private int Evaluations(MemoryWay way) => Steps * ((way.Unrolled ? 1 : 2) + (way.Checkpointing ? 1 : 0));

    private int Element(bool IsVae) => (IsVae ? Config.Autoencoder.DtypeFor(Dtype) : Dtype) switch
    {
        ScalarType.Float64 => 8,
        ScalarType.Float16 or ScalarType.BFloat16 => 2,
        _ => 4,
    };

    private bool IsTrained(string name) => Trained.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, name, ignoreCase: false)) && (Rank is null || name.EndsWith(".weight", StringComparison.Ordinal));

    private long Adapters(int rank)
    {
        using var network = Layers.Blank(ScalarType.Float32, () => new UNet2DConditionModel(Config.Unet));
        return network.named_modules().Select(m => (m.name, Weight: m.module switch { Linear linear => linear.weight, Conv2d conv => conv.weight, _ => null })).Where(m => m.Weight is not null && IsTrained(m.name + ".weight"))
            .Sum(m => rank * (m.Weight!.shape[0] + m.Weight.shape[1..].Aggregate(1L, (a, b) => a * b)));
    }

    // On the meta device: names and shapes without memory for the layers that hold nearly all.
    private static List<(string Name, long Count)> Parameters(Func<nn.Module> make)
    {
        using var network = Layers.Blank(ScalarType.Float32, make);
        return [.. network.named_parameters().Select(p => (p.name, p.parameter.numel()))];
    }
}

/// <summary>How a gradient is computed, as far as it decides the memory.</summary>
/// <param name="Unrolled">All graphs at once (store-all) in place of one at a time (discrete). Default: false.</param>
/// <param name="Checkpointing">Blocks of networks are computed again on the way back. Default: false.</param>
/// <param name="Slicing">The autoencoder decodes one sample after the other. Default: false.</param>
/// <param name="Tile">Side of the tiles that it decodes, in pixels; null for whole pictures. Default: null.</param>
/// <param name="Fused">The network's attention is the fused kernel. Default: false.</param>
/// <param name="Offloaded">Stored states lie in main memory, one on the device. Not with <paramref name="Unrolled"/>. Default: false.</param>
public sealed record MemoryWay(bool Unrolled = false, bool Checkpointing = false, bool Slicing = false, int? Tile = null, bool Fused = false, bool Offloaded = false)
{
    /// <summary>As specs have it: the method, then what is set of the model.</summary>
    public override string ToString() => string.Join(" + ", new[] { Unrolled ? "store-all" : Offloaded ? "offloaded" : "discrete", Checkpointing ? "checkpointing" : null, Slicing ? "slices" : null, Tile is { } side ? FormattableString.Invariant($"tiles {side}") : null, Fused ? "fused attention" : null }.Where(part => part is not null));
}

/// <summary>What is held throughout.</summary>
/// <param name="UnetBytes">The diffusion network.</param>
/// <param name="AutoencoderBytes">The autoencoder.</param>
/// <param name="TextBytes">The text encoders.</param>
/// <param name="BaseBytes">The weights under adapters, once more.</param>
/// <param name="GradientBytes">Sums of the gradients of trained weights, in float32 at least; an adapted layer's is that of its whole weight.</param>
/// <param name="TrainedNumbers">Numbers that the optimiser moves.</param>
public sealed record MemoryWeights(long UnetBytes, long AutoencoderBytes, long TextBytes, long BaseBytes, long GradientBytes, long TrainedNumbers)
{
    /// <summary>All weights, gradients aside.</summary>
    public long Bytes => UnetBytes + AutoencoderBytes + TextBytes + BaseBytes;
}

/// <summary>What one way takes at its highest moment above the weights. The parts add up to the peak.</summary>
/// <param name="Way">How.</param>
/// <param name="StateBytes">States of the sampler.</param>
/// <param name="NetworkBytes">Graphs of the network and what is on top of them meanwhile.</param>
/// <param name="LossBytes">The decoder with its graph and the loss; 0 where the way back through the network is the highest moment.</param>
/// <param name="GradientBytes">Gradients of weights; 0 where the loss is the highest moment.</param>
/// <param name="Evaluations">Evaluations of the network on both ways, recomputed ones included.</param>
public sealed record MemoryEstimate(MemoryWay Way, long StateBytes, long NetworkBytes, long LossBytes, long GradientBytes, int Evaluations)
{
    /// <summary>All parts.</summary>
    public long PeakBytes => StateBytes + NetworkBytes + LossBytes + GradientBytes;
}
