using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>LoRA files on a model, several at once, each with a strength that may change: every weight is what it was plus what all of them add.</summary>
/// <remarks>What the weights were is kept in their own dtype, so that taking the last adapter off gives every bit back; a sum is rounded once. <see cref="LoraWeights.Merge(StableDiffusionModel, double)"/> keeps nothing and adds for good.</remarks>
public sealed class MergedLoras : IDisposable
{
    private readonly StableDiffusionModel _model;
    private readonly List<(LoraWeights Weights, double Strength)> _loras = [];
    private readonly Dictionary<(string Component, string Module), (AdaptedWeight Adapted, ScalarType Dtype)> _adapted = [];

    /// <summary>No adapters yet.</summary>
    /// <param name="model">The model; not owned.</param>
    public MergedLoras(StableDiffusionModel model) => _model = model;

    /// <summary>Number of adapters on the model.</summary>
    public int Count => _loras.Count;

    /// <summary>Adds an adapter to the model's weights, on top of those there are.</summary>
    /// <param name="weights">The adapter; not owned, and needed until this is disposed.</param>
    /// <param name="strength">Factor of what it adds. Default: 1.</param>
    /// <returns>Its number, for <see cref="Set"/>.</returns>
    /// <exception cref="ArgumentException">An adapter does not fit the model. Nothing is changed then.</exception>
    public int Add(LoraWeights weights, double strength = 1)
    {
        ArgumentNullException.ThrowIfNull(weights);
        weights.ThrowIfUnfit(_model);
        _loras.Add((weights, strength));
        var names = new LoraNames(_model);
        foreach (var place in weights.Layers.Select(l => (l.Component, l.Module)).Where(place => !_adapted.ContainsKey(place)))
        {
            var weight = (Parameter)names.Weight(place.Component, place.Module);
            var dtype = weight.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
            _adapted[place] = (AdaptedWeight.Join(weight, this, sum => Added(place, sum)), dtype);
        }

        Fold(weights);
        return _loras.Count - 1;
    }

    /// <summary>Changes an adapter's strength; 0 is without it.</summary>
    /// <param name="number">From <see cref="Add"/>.</param>
    /// <param name="strength">Factor of what it adds.</param>
    public void Set(int number, double strength)
    {
        _loras[number] = (_loras[number].Weights, strength);
        Fold(_loras[number].Weights);
    }

    /// <summary>Takes all adapters off: every weight has the bits that it had before, unless others than these add to it.</summary>
    public void Dispose()
    {
        foreach (var (adapted, dtype) in _adapted.Values)
            adapted.Leave(this, dtype);
        _adapted.Clear();
        _loras.Clear();
    }

    private void Fold(LoraWeights weights)
    {
        foreach (var place in weights.Layers.Select(l => (l.Component, l.Module)).Distinct())
            _adapted[place].Adapted.Fold(_adapted[place].Dtype);
    }

    private Tensor Added((string Component, string Module) place, Tensor sum)
    {
        foreach (var (weights, strength) in _loras.Where(l => l.Strength != 0))
        {
            foreach (var layer in weights.Layers.Where(l => (l.Component, l.Module) == place))
            {
                using var factor = strength.ToScalar();
                sum = sum.add(layer.Product(sum.shape).to(sum.dtype).to(sum.device), factor);
            }
        }

        return sum;
    }
}
