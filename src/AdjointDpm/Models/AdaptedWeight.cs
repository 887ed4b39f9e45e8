using System.Runtime.CompilerServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models;

/// <summary>A weight that adapters add to, however many they are: it is what it was before any of them plus what each adds.</summary>
/// <remarks>All adapters of a weight share what is below them, so that each can come, change and go without the others' knowledge. When the last has gone the weight has its own bits again.</remarks>
internal sealed class AdaptedWeight
{
    private static readonly ConditionalWeakTable<Parameter, AdaptedWeight> All = [];

    private readonly Parameter _weight;
    private readonly List<(object Owner, Func<Tensor, Tensor> Add)> _adapters = [];

    private AdaptedWeight(Parameter weight)
    {
        _weight = weight;
        using var frozen = no_grad();
        Base = weight.detach().clone().DetachFromDisposeScope();
    }

    /// <summary>The weight without any adapter, in its own dtype.</summary>
    public Tensor Base { get; }

    /// <summary>Joins an adapter; nothing is added before <see cref="Fold"/>.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="owner">Who adds; leaves by <see cref="Leave"/>.</param>
    /// <param name="add">Gives a sum with what it adds now, of a sum so far in the weight's shape.</param>
    public static AdaptedWeight Join(Parameter weight, object owner, Func<Tensor, Tensor> add)
    {
        lock (All)
        {
            var adapted = All.GetValue(weight, w => new(w));
            adapted._adapters.Add((owner, add));
            return adapted;
        }
    }

    /// <summary>Whether adapters add to a weight.</summary>
    public static bool Is(Parameter weight) => All.TryGetValue(weight, out _);

    /// <summary>Puts the sum into the weight, from the adapters as they are now. In the dtype of the adapters, which is rounded once at the end.</summary>
    /// <param name="dtype">That dtype.</param>
    public void Fold(ScalarType dtype)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        _weight.copy_(_adapters.Aggregate(Base.to(dtype), (sum, adapter) => adapter.Add(sum)));
    }

    /// <summary>Takes an adapter out; the others stay. The last leaves the weight as it was, to the bit.</summary>
    public void Leave(object owner, ScalarType dtype)
    {
        lock (All)
        {
            _adapters.RemoveAll(a => ReferenceEquals(a.Owner, owner));
            if (_adapters.Count > 0)
            {
                Fold(dtype);
                return;
            }

            All.Remove(_weight);
        }

        using var frozen = no_grad();
        if (!_weight.IsInvalid)
            _weight.copy_(Base);
        Base.Dispose();
    }
}
