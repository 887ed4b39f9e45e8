using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Formats;

/// <summary>How a tensor of a file becomes a tensor of a network.</summary>
internal enum WeightForm
{
    /// <summary>As it is.</summary>
    Same,

    /// <summary>A 1×1 convolution's weight [o, i, 1, 1] that is a linear layer's [o, i] here; read from files that have [o, i], too.</summary>
    Pointwise,

    /// <summary>Transposed.</summary>
    Transposed,

    /// <summary>The first third of the rows: queries of a joint projection.</summary>
    Query,

    /// <summary>The second third.</summary>
    Key,

    /// <summary>The last third.</summary>
    Value,
}

/// <summary>One tensor of a network and where it lies in a file of another layout.</summary>
/// <param name="Ours">Name in the network.</param>
/// <param name="Theirs">Name in the file.</param>
/// <param name="Form">How one becomes the other.</param>
internal sealed record WeightEntry(string Ours, string Theirs, WeightForm Form);

/// <summary>A network's tensors by their names and forms in a file of another layout, in both directions.</summary>
internal sealed class WeightMap
{
    private readonly List<WeightEntry> _entries;
    private readonly nn.Module _network;
    private readonly Dictionary<string, Tensor> _tensors;

    public WeightMap(nn.Module network, Func<string, WeightEntry> name)
    {
        (_network, _tensors) = (network, network.state_dict());
        _entries = [.. _tensors.Keys.Select(name)];
    }

    public IReadOnlyList<WeightEntry> Entries => _entries;

    /// <summary>What is missing, of another shape, or too much in the file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="prefix">Tensors with this prefix belong to the network.</param>
    /// <param name="mayBeLeft">Which of them may be left over all the same.</param>
    public void Check(WeightFiles file, string prefix, Func<string, bool> mayBeLeft)
    {
        var names = file.Names.ToHashSet(StringComparer.Ordinal);
        var (missing, mismatched) = (new List<string>(), new List<string>());
        foreach (var entry in _entries)
        {
            if (!names.Contains(entry.Theirs))
                missing.Add(entry.Theirs);
            else if (!file.Shape(entry.Theirs).SequenceEqual(ShapeOfTheirs(entry)) && !(entry.Form == WeightForm.Pointwise && file.Shape(entry.Theirs).SequenceEqual(_tensors[entry.Ours].shape)))
                mismatched.Add($"{entry.Theirs}: file [{string.Join(", ", file.Shape(entry.Theirs))}], network [{string.Join(", ", ShapeOfTheirs(entry))}]");
        }

        var wanted = _entries.Select(e => e.Theirs).ToHashSet(StringComparer.Ordinal);
        var unexpected = names.Where(n => n.StartsWith(prefix, StringComparison.Ordinal) && !wanted.Contains(n) && !mayBeLeft(n)).Order(StringComparer.Ordinal).ToList();
        ModuleWeights.ThrowIfUnfit(file.Path, _network, missing, unexpected, mismatched, "Check that the configuration is this model's.");
    }

    /// <summary>Fills the network; call <see cref="Check"/> first.</summary>
    public void Fill(WeightFiles file)
    {
        using var frozen = no_grad();
        var modules = Layers.ByPath(_network);
        var ours = _entries.ToLookup(e => e.Theirs, StringComparer.Ordinal);
        file.ReadEach([.. ours.Select(g => g.Key)], (name, theirs) =>
        {
            using var scope = NewDisposeScope();
            foreach (var entry in ours[name])
            {
                Layers.Set(modules, entry.Ours, _tensors[entry.Ours], entry.Form switch
                {
                    WeightForm.Pointwise => theirs.reshape(_tensors[entry.Ours].shape),
                    WeightForm.Transposed => theirs.t().contiguous(),
                    // A third with memory of its own: the whole would be held three times over.
                    WeightForm.Query or WeightForm.Key or WeightForm.Value => theirs.chunk(3, 0)[entry.Form - WeightForm.Query].clone(),
                    _ => theirs,
                });
            }
        });
    }

    /// <summary>Adds the network's tensors to a file's, by its names; in the current dispose scope.</summary>
    public void AddTo(Dictionary<string, Tensor> file)
    {
        foreach (var group in _entries.GroupBy(e => e.Theirs))
        {
            var parts = group.OrderBy(e => e.Form).Select(e => (e.Form, Value: _tensors[e.Ours].detach())).ToList();
            file.Add(group.Key, parts[0].Form switch
            {
                WeightForm.Pointwise => parts[0].Value.unsqueeze(-1).unsqueeze(-1),
                WeightForm.Transposed => parts[0].Value.t().contiguous(),
                WeightForm.Query => cat([.. parts.Select(p => p.Value)], 0),
                _ => parts[0].Value,
            });
        }
    }

    private long[] ShapeOfTheirs(WeightEntry entry)
    {
        var shape = _tensors[entry.Ours].shape;
        return entry.Form switch
        {
            WeightForm.Pointwise => [.. shape, 1, 1],
            WeightForm.Transposed => [shape[1], shape[0]],
            WeightForm.Query or WeightForm.Key or WeightForm.Value => [3 * shape[0], .. shape[1..]],
            _ => shape,
        };
    }
}
