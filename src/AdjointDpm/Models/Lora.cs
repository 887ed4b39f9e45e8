using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models;

/// <summary>Low-rank adapters on a network's linear and convolution layers: W + (alpha / r) B A, with W [out, in, …] held constant, A [r, in, …], B [out, r, 1, …].</summary>
/// <remarks>
/// Hu et al. (2021), LoRA, equation 3; convolutions as PEFT has them, A with the layer's kernel and B with kernel 1. The adapted weight is folded
/// into the network before it runs, so its forward pass costs nothing extra and the network needs no change. A gradient with respect to
/// the folded weight G gives (alpha / r) Bᵀ G for A and (alpha / r) G Aᵀ for B, which is <see cref="Gradients"/>.
/// Several on one weight add up, with those of <see cref="MergedLoras"/>, and each leaves the others when it goes.
/// </remarks>
public sealed class Lora : IDisposable
{
    private readonly List<Layer> _layers = [];

    /// <summary>Adapts layers of a network. A is random, B zero, so that nothing changes yet.</summary>
    /// <param name="network">Network whose weights are folded; not owned.</param>
    /// <param name="matches">Decides by the name of a layer's weight, such as <c>mid_block.attentions.0.to_q.weight</c>.</param>
    /// <param name="rank">Rank r of every adapter, at least 1.</param>
    /// <param name="alpha">Scale times rank. Default: the rank.</param>
    /// <param name="seed">Seed of A; equal seeds give equal bits.</param>
    /// <exception cref="ArgumentOutOfRangeException">The rank is below 1.</exception>
    /// <exception cref="ArgumentException">No linear or convolution layer matches.</exception>
    public Lora(nn.Module network, Func<string, bool> matches, int rank, double? alpha = null, ulong seed = 0)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentNullException.ThrowIfNull(matches);
        if (rank < 1)
            throw new ArgumentOutOfRangeException(nameof(rank), rank, $"An adapter has a rank of at least 1, got {rank}.");
        (Rank, Alpha) = (rank, alpha ?? rank);
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (path, module) in network.named_modules())
        {
            var weight = module switch { Linear linear => linear.weight, Conv2d conv => conv.weight, _ => null };
            if (weight is null || !matches(path + ".weight"))
                continue;
            // Counter-based, keyed by the layer's place: the same on every device, whatever else is adapted.
            _layers.Add(new Layer(path, weight, rank, Alpha, new NoiseKey(seed, Shard: (ushort)_layers.Count, Draw: ushort.MaxValue)));
        }

        if (_layers.Count == 0)
            throw new ArgumentException("No linear or convolution layer matches, so there is nothing to adapt. List the network's parameter names and widen the patterns.", nameof(matches));
    }

    /// <summary>Rank of every adapter.</summary>
    public int Rank { get; }

    /// <summary>Scale times rank: the adapters' product is multiplied by Alpha / Rank.</summary>
    public double Alpha { get; }

    /// <summary>Names of the adapted weights, in order: what to declare as inputs of a solve.</summary>
    public IReadOnlyList<string> WeightNames => [.. _layers.Select(layer => layer.Path + ".weight")];

    /// <summary>The network's own tensors behind <see cref="WeightNames"/>, in order.</summary>
    public IReadOnlyList<Tensor> Weights => [.. _layers.Select(layer => layer.Weight)];

    /// <summary>Trained tensors by name (<c>path.lora_A.weight</c>, <c>path.lora_B.weight</c>), in a fixed order; float64 for a network in float64, float32 for all others.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> Parameters =>
        [.. _layers.SelectMany(layer => new[] { (layer.Path + ".lora_A.weight", layer.A), (layer.Path + ".lora_B.weight", layer.B) })];

    /// <summary>Puts W + (alpha / r) B A into the network, from the adapters as they are now, with what other adapters of the same weights add.</summary>
    public void Fold()
    {
        foreach (var layer in _layers)
            layer.Adapted.Fold(layer.A.dtype);
    }

    /// <summary>Adds the adapters' product to another network's weights of the same names, for good; such as to the network in full precision.</summary>
    /// <param name="network">A network of the same architecture.</param>
    /// <exception cref="ArgumentException">It lacks an adapted weight, or has it in another shape.</exception>
    public void AddTo(nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        using Scalar scale = (Alpha / Rank).ToScalar();
        var weights = network.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        if (_layers.FirstOrDefault(l => !weights.TryGetValue(l.Path + ".weight", out var weight) || !weight.shape.AsSpan().SequenceEqual(l.Weight.shape)) is { } other)
            throw new ArgumentException($"The network has no weight {other.Path}.weight of shape [{string.Join(", ", other.Weight.shape)}]. Pass one of the same architecture.", nameof(network));
        foreach (var layer in _layers)
        {
            var weight = weights[layer.Path + ".weight"];
            weight.copy_(weight.to(layer.A.dtype).add(layer.Product().to(weight.device), scale));
        }
    }

    /// <summary>Carries gradients of the folded weights on to the adapters.</summary>
    /// <param name="ofWeights">∂L/∂W of each adapted layer, in the order of <see cref="WeightNames"/>, of the weights' shapes.</param>
    /// <returns>∂L/∂parameter in the order of <see cref="Parameters"/>, each of its shape, in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">There are not as many gradients as adapted layers.</exception>
    public IReadOnlyList<Tensor> Gradients(IReadOnlyList<Tensor> ofWeights)
    {
        ArgumentNullException.ThrowIfNull(ofWeights);
        if (ofWeights.Count != _layers.Count)
            throw new ArgumentException($"{_layers.Count} layers are adapted, but {ofWeights.Count} gradients were given.", nameof(ofWeights));
        using var frozen = no_grad();
        using Scalar scale = (Alpha / Rank).ToScalar();
        var gradients = new List<Tensor>(2 * _layers.Count);
        for (var i = 0; i < _layers.Count; i++)
        {
            using var scope = NewDisposeScope();
            var layer = _layers[i];
            var g = ofWeights[i].to(layer.A.dtype).reshape(layer.Weight.shape[0], -1);
            var (a, b) = (layer.A.reshape(Rank, -1), layer.B.reshape(-1, Rank));
            gradients.Add(b.t().matmul(g).mul(scale).reshape(layer.A.shape).MoveToOuterDisposeScope());
            gradients.Add(g.matmul(a.t()).mul(scale).reshape(layer.B.shape).MoveToOuterDisposeScope());
        }

        return gradients;
    }

    /// <summary>Writes the adapters as diffusers' loaders read them, with rank and alpha in the metadata.</summary>
    /// <param name="path">Path of the file, by custom <c>pytorch_lora_weights.safetensors</c>.</param>
    /// <param name="prefix">Put before every name. Default: unet.</param>
    public void Save(string path, string prefix = "unet")
    {
        using var weights = LoraWeights.Of(this, prefix);
        LoraWeights.WriteDiffusers(path, weights.Layers, null);
    }

    /// <summary>Takes the values of adapters that were read from a file, to go on training them.</summary>
    /// <param name="layers">One for each adapted layer, of this rank and alpha, by module; layers of other components are passed over.</param>
    /// <param name="component">The network's name in the file. Default: unet.</param>
    /// <exception cref="ArgumentException">The layers are not those that are adapted here, or of another rank or alpha. Nothing is changed then.</exception>
    public void CopyFrom(IEnumerable<LoraLayer> layers, string component = "unet")
    {
        ArgumentNullException.ThrowIfNull(layers);
        var given = layers.Where(l => l.Component == component).ToDictionary(l => l.Module);
        if (given.Values.FirstOrDefault(l => l.Rank != Rank || l.Alpha != Alpha) is { } other)
            throw new ArgumentException($"The adapter of {other.Module} has rank {other.Rank} and alpha {other.Alpha}, these here {Rank} and {Alpha}. Adapt with the file's, or merge the file into the weights.", nameof(layers));
        if (_layers.FirstOrDefault(l => !given.TryGetValue(l.Path, out var layer) || !layer.Fits(l.Weight.shape)) is { } without)
            throw new ArgumentException($"The file has no adapter that fits {without.Path}. Adapt the layers that it has: {string.Join(", ", given.Keys.Take(4))}, ….", nameof(layers));
        if (given.Count != _layers.Count)
            throw new ArgumentException($"The file adapts {given.Count} layers, {_layers.Count} are adapted here. Adapt the same ones.", nameof(layers));
        using var frozen = no_grad();
        foreach (var layer in _layers)
        {
            using var scope = NewDisposeScope();
            layer.A.copy_(given[layer.Path].Down.reshape(layer.A.shape));
            layer.B.copy_(given[layer.Path].Up.reshape(layer.B.shape));
        }
    }

    /// <summary>Puts back what the network's weights are without these adapters and frees them.</summary>
    public void Dispose()
    {
        foreach (var layer in _layers)
        {
            layer.Adapted.Leave(layer, layer.A.dtype);
            layer.A.Dispose();
            layer.B.Dispose();
        }

        _layers.Clear();
    }

    private sealed class Layer
    {
        private readonly Scalar _scale;

        public Layer(string path, Parameter weight, int rank, double alpha, NoiseKey key)
        {
            (Path, Weight) = (path, weight);
            _scale = (alpha / rank).ToScalar();
            var shape = weight.shape;
            long[] ofA = [rank, .. shape[1..]];
            long[] ofB = [shape[0], rank, .. shape[2..].Select(_ => 1L)];
            // The spread of PEFT's beginning: uniform on ±1/√fan-in has a standard deviation of 1/√(3 fan-in).
            using Scalar spread = (1 / Math.Sqrt(3.0 * shape[1..].Aggregate(1L, (product, n) => product * n))).ToScalar();
            // Adapters of a network in half precision are float32: steps of an optimiser would be lost below its rounding.
            var dtype = weight.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
            A = CounterNoise.Normal(key, ofA, dtype, weight.device).mul_(spread).DetachFromDisposeScope();
            B = zeros(ofB, dtype, weight.device).DetachFromDisposeScope();
            Adapted = AdaptedWeight.Join(weight, this, sum => sum.add(Product().to(sum.dtype), _scale));
        }

        public string Path { get; }

        public Parameter Weight { get; }

        public AdaptedWeight Adapted { get; }

        public Tensor A { get; }

        public Tensor B { get; }

        public Tensor Product() => B.reshape(Weight.shape[0], -1).matmul(A.reshape(A.shape[0], -1)).reshape(Weight.shape);
    }
}
