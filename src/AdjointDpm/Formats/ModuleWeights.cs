using AdjointDpm.Models;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>Moves a network's weights between a module and safetensors files.</summary>
public static class ModuleWeights
{
    /// <summary>Fills a module from a file, or from the files that a <c>.safetensors.index.json</c> lists. Nothing is changed unless every name and every shape fits.</summary>
    /// <remarks>
    /// TorchSharp's own loading broadcasts: a bias of shape [1] fills one of shape [3] without a word. Values are converted to the
    /// module's dtype and device.
    /// </remarks>
    /// <param name="module">The network; its <c>state_dict</c> decides the names and shapes.</param>
    /// <param name="path">Path of the file.</param>
    /// <param name="rename">Gives the module's name for a name of the file; null for a tensor to pass over. Default: names are equal.</param>
    /// <exception cref="SafetensorsException">Names are missing, unexpected or meet twice, or a shape differs; the message lists them.</exception>
    public static void Load(torch.nn.Module module, string path, Func<string, string?>? rename = null)
    {
        using var file = WeightFiles.Open(path);
        var wanted = module.state_dict();
        var source = new Dictionary<string, string>(StringComparer.Ordinal);
        var unexpected = new List<string>();
        var mismatched = new List<string>();
        foreach (var name in file.Names)
        {
            var target = rename is null ? name : rename(name);
            if (target is null)
                continue;
            if (!wanted.TryGetValue(target, out var tensor))
                unexpected.Add(name);
            else if (!source.TryAdd(target, name))
                throw new SafetensorsException(path, name, $"stands for '{target}' of the network, as does '{source[target]}'. Keep one of the two.");
            else if (!tensor.shape.AsSpan().SequenceEqual(file.Shape(name).ToArray()))
                mismatched.Add($"{name}: file [{string.Join(", ", file.Shape(name))}], network [{string.Join(", ", tensor.shape)}]");
        }

        var missing = wanted.Keys.Where(k => !source.ContainsKey(k)).ToList();
        ThrowIfUnfit(path, module, missing, unexpected, mismatched, "Check that config.json belongs to this file.");
        using var frozen = torch.no_grad();
        var modules = Layers.ByPath(module);
        var targets = source.ToDictionary(s => s.Value, s => s.Key, StringComparer.Ordinal);
        file.ReadEach([.. source.Values], (name, value) => Layers.Set(modules, targets[name], wanted[targets[name]], value));
    }

    /// <summary>Writes a module's weights under its own names.</summary>
    /// <param name="module">The network.</param>
    /// <param name="path">Path of the file.</param>
    /// <param name="metadata">Strings for the header; <c>format: pt</c> is added, which other loaders ask for.</param>
    /// <exception cref="SafetensorsException">A weight has a dtype that the format has no name for.</exception>
    public static void Save(torch.nn.Module module, string path, IReadOnlyDictionary<string, string>? metadata = null) => SafetensorsWriter.WriteForTorch(path, module.state_dict(), metadata);

    /// <summary>A network made without memory for its large weights and filled from a file. Nothing of it stays when that fails.</summary>
    /// <param name="make">Makes the network.</param>
    /// <param name="path">Path of the file.</param>
    /// <param name="rename">As for <see cref="Load"/>.</param>
    /// <param name="dtype">Dtype of all its weights.</param>
    internal static T Loaded<T>(Func<T> make, string path, Func<string, string?> rename, torch.ScalarType dtype = torch.ScalarType.Float32)
        where T : torch.nn.Module
    {
        var network = Layers.Blank(dtype, make);
        try
        {
            Load(network, path, rename);
            // What was not made in it: normalisations.
            network.to(dtype);
            network.eval();
            return network;
        }
        catch
        {
            network.Dispose();
            throw;
        }
    }

    internal static void ThrowIfUnfit(string path, torch.nn.Module module, List<string> missing, List<string> unexpected, List<string> mismatched, string advice)
    {
        if (missing.Count + unexpected.Count + mismatched.Count > 0)
        {
            throw new SafetensorsException(path, null,
                $"does not fit {module.GetType().Name}." + Listed("Missing", missing) + Listed("Unexpected", unexpected) + Listed("Of another shape", mismatched) + " " + advice);
        }
    }

    private static string Listed(string what, List<string> names) =>
        names.Count == 0 ? "" : $" {what} ({names.Count}): {string.Join("; ", names.Take(8))}{(names.Count > 8 ? "; …" : "")}.";
}
