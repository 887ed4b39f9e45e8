using System.Globalization;
using AdjointDpm.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>The adapters of a LoRA file, for a model: read and written in both dialects. Owns its tensors.</summary>
public sealed partial class LoraWeights : IDisposable
{
    // Both ends of a name, down and up; the first of each is what is written.
    private static readonly (string Down, string Up)[] Endings =
    [
        (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"), (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora.down.weight", ".lora.up.weight"), ("_lora.down.weight", "_lora.up.weight"), (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"), (".lora_A", ".lora_B"),
    ];

    private static readonly string[] OtherKinds = ["hada_", "lokr_", "dora_scale", "lora_magnitude_vector", "oft_", "lora_mid", "diff_b"];

    /// <summary>The diffusion network's name in LoRA files.</summary>
    public const string Unet = LoraNames.Unet;

    internal const string DiffusersFile = "pytorch_lora_weights.safetensors";

    private LoraWeights(IReadOnlyList<LoraLayer> layers, IReadOnlyDictionary<string, string> metadata) => (Layers, Metadata) = (layers, metadata);

    /// <summary>The adapters, in the order of component and module.</summary>
    public IReadOnlyList<LoraLayer> Layers { get; }

    /// <summary>The strings of the file's header.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The adapters of a network that is being trained.</summary>
    /// <param name="lora">Adapters; copied.</param>
    /// <param name="component">The network: unet, text_encoder or text_encoder_2. Default: unet.</param>
    public static LoraWeights Of(Lora lora, string component = LoraNames.Unet) => Of(new Dictionary<string, Lora> { [component] = lora });

    /// <summary>The adapters of several networks that are being trained.</summary>
    /// <param name="byComponent">Adapters, copied, by network: unet, text_encoder or text_encoder_2.</param>
    public static LoraWeights Of(IReadOnlyDictionary<string, Lora> byComponent)
    {
        ArgumentNullException.ThrowIfNull(byComponent);
        var layers = new List<LoraLayer>();
        foreach (var (component, lora) in byComponent.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            var values = lora.Parameters;
            layers.AddRange(lora.WeightNames.Select((name, i) => new LoraLayer(component, name[..^".weight".Length], Copy(values[2 * i].Value), Copy(values[(2 * i) + 1].Value), lora.Alpha)));
        }

        return new(layers, new Dictionary<string, string>());

        static Tensor Copy(Tensor x) => x.detach().clone().DetachFromDisposeScope();
    }

    /// <summary>Reads a file of either dialect, or a folder as diffusers or PEFT write it.</summary>
    /// <param name="path">The file; or a folder with <c>pytorch_lora_weights.safetensors</c> or <c>adapter_config.json</c>, or with such folders named by network.</param>
    /// <param name="model">The model it is for, which knows the layers' names. It is left as it is.</param>
    /// <exception cref="SafetensorsException">The file is no LoRA, one of another kind, for another model, or incomplete.</exception>
    /// <exception cref="ModelConfigException">A PEFT folder's configuration is missing, malformed, or of an adapter that is not read here.</exception>
    public static LoraWeights Read(string path, StableDiffusionModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        // A LoRA's folder of the Hugging Face cache holds diffusers' file.
        var diffusers = Path.Combine(path, DiffusersFile);
        return File.Exists(diffusers) ? Read(diffusers, model, null, null) : Directory.Exists(path) ? ReadPeft(path, model) : Read(path, model, null, null);
    }

    private static LoraWeights Read(string path, StableDiffusionModel model, string? fixedComponent, Func<string, int, double>? alphaOf)
    {
        using var file = SafetensorsFile.Open(path);
        var names = new LoraNames(model);
        var found = new SortedDictionary<(string Component, string Module), (string? Down, string? Up, string? Alpha)>();
        var unknown = new List<string>();
        foreach (var name in file.Names)
        {
            if (OtherKinds.FirstOrDefault(k => name.Contains(k, StringComparison.Ordinal)) is { } kind)
                throw new SafetensorsException(path, name, $"belongs to an adapter of another kind ({kind.Trim('_')}: LoHa, LoKr, DoRA, OFT or Tucker). Plain LoRA is read: merge the adapter into its model first.");
            if (Split(name) is not { } part || Resolve(part.Layer, names, fixedComponent) is not { } layer)
            {
                unknown.Add(name);
                continue;
            }

            var entry = found.GetValueOrDefault(layer);
            var taken = part.Kind switch { Part.Down => entry.Down, Part.Up => entry.Up, _ => entry.Alpha };
            if (taken is not null)
                throw new SafetensorsException(path, name, $"is the same part of {layer.Component}.{layer.Module} as '{taken}'. Keep one of the two.");
            found[layer] = part.Kind switch { Part.Down => entry with { Down = name }, Part.Up => entry with { Up = name }, _ => entry with { Alpha = name } };
        }

        if (unknown.Count > 0 || found.Count == 0)
        {
            throw new SafetensorsException(path, null, found.Count == 0
                ? $"holds no LoRA for this model{(unknown.Count > 0 ? $": its first tensor is '{unknown[0]}'" : "")}. Check that it was trained for {SingleFileCheckpoint.KindOf(model).Called()}."
                : $"has {unknown.Count} tensors that this model has no layer for, such as '{unknown[0]}'. Check that it was trained for {SingleFileCheckpoint.KindOf(model).Called()}.");
        }

        var layers = new List<LoraLayer>();
        try
        {
            foreach (var (layer, entry) in found)
            {
                if (entry.Down is null || entry.Up is null)
                    throw new SafetensorsException(path, entry.Down ?? entry.Up ?? entry.Alpha, "is without its other half: an adapter is a down and an up matrix. The file is incomplete: get it again.");
                // Shapes are looked at before anything is read.
                var shape = names.Weight(layer.Component, layer.Module).shape;
                var (down, up) = (file.Shape(entry.Down), file.Shape(entry.Up));
                var rank = down.Count > 0 ? down[0] : 0;
                if (rank < 1 || up.Count < 2 || up[0] != shape[0] || up.Aggregate(1L, (a, b) => a * b) != rank * shape[0] || down.Aggregate(1L, (a, b) => a * b) != rank * shape[1..].Aggregate(1L, (a, b) => a * b))
                    throw new SafetensorsException(path, entry.Down, $"[{string.Join(", ", down)}] and '{entry.Up}' [{string.Join(", ", up)}] are no adapter of {layer.Component}.{layer.Module}, whose weight is [{string.Join(", ", shape)}]. Check that the file was trained for {SingleFileCheckpoint.KindOf(model).Called()}.");
                layers.Add(new(layer.Component, layer.Module, file.Read(entry.Down).DetachFromDisposeScope(), file.Read(entry.Up).DetachFromDisposeScope(), alphaOf?.Invoke(layer.Module, (int)rank) ?? Alpha(file, entry.Alpha, layer, (int)rank)));
            }

            return new(layers, new Dictionary<string, string>(file.Metadata));
        }
        catch
        {
            Free(layers);
            throw;
        }
    }

    /// <summary>Writes a file, alpha as it is.</summary>
    /// <param name="path">The file; diffusers looks for <c>pytorch_lora_weights.safetensors</c>.</param>
    /// <param name="dialect">How the tensors are named.</param>
    /// <param name="model">The model it is for, which knows the layers' names.</param>
    /// <param name="metadata">More strings for the header, which win over those made here. Default: none.</param>
    public void Write(string path, LoraDialect dialect, StableDiffusionModel model, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var names = new LoraNames(model);
        if (Layers.FirstOrDefault(l => !names.Knows(l.Component, l.Module)) is { } foreign)
            throw new ArgumentException($"The model has no layer {foreign.Component}.{foreign.Module}. Pass the model that the LoRA was trained for.", nameof(model));
        if (dialect == LoraDialect.Diffusers)
        {
            WriteDiffusers(path, Layers, metadata);
            return;
        }

        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var layer in Layers)
        {
            var name = names.ToKohya(layer.Component, layer.Module);
            tensors[name + ".lora_down.weight"] = layer.Down;
            tensors[name + ".lora_up.weight"] = layer.Up;
            tensors[name + ".alpha"] = tensor((float)layer.Alpha);
        }

        LoraMetadata.WriteKohya(path, tensors, this, model, metadata);
    }

    /// <summary>Writes both dialects, reads them back and compares, weight by weight, what they would add to the model.</summary>
    /// <param name="folder">Folder for <c>pytorch_lora_weights.safetensors</c>, which diffusers looks for, and the kohya file; made when missing.</param>
    /// <param name="name">Name of the kohya file without its extension: what interfaces list it by.</param>
    /// <param name="model">The model it is for.</param>
    /// <param name="metadata">More strings for both headers. Default: none.</param>
    /// <returns>The two files.</returns>
    /// <exception cref="SafetensorsException">A file does not say what was written. Both are removed then.</exception>
    public IReadOnlyList<string> WriteBoth(string folder, string name, StableDiffusionModel model, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var files = new[] { Path.Combine(folder, DiffusersFile), Path.Combine(folder, name + ".safetensors") };
        if (files[0] == files[1])
            throw new ArgumentException($"'{name}' is the diffusers file's own name. Choose another.", nameof(name));
        try
        {
            Write(files[0], LoraDialect.Diffusers, model, metadata);
            Write(files[1], LoraDialect.Kohya, model, metadata);
            foreach (var file in files)
                Compare(file, model);
            return files;
        }
        catch
        {
            foreach (var file in files)
                File.Delete(file);
            throw;
        }
    }

    /// <summary>Adds the adapters to the model's weights, for good; <see cref="MergedLoras"/> takes them off again.</summary>
    /// <param name="model">The model.</param>
    /// <param name="strength">Factor of all. Default: 1.</param>
    /// <exception cref="ArgumentException">An adapter does not fit. Nothing is changed then.</exception>
    /// <exception cref="InvalidOperationException">Other adapters add to one of the weights, and would undo this one when they change. Nothing is changed then.</exception>
    public void Merge(StableDiffusionModel model, double strength = 1) => Merge(model, strength, _ => true);

    /// <summary>The same for some of the networks.</summary>
    /// <param name="model">The model.</param>
    /// <param name="strength">Factor of all.</param>
    /// <param name="components">Decides by a network's name: <see cref="Unet"/>, text_encoder or text_encoder_2.</param>
    public void Merge(StableDiffusionModel model, double strength, Func<string, bool> components)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var frozen = no_grad();
        var names = ThrowIfUnfit(model);
        if (Layers.FirstOrDefault(l => AdaptedWeight.Is((TorchSharp.Modules.Parameter)names.Weight(l.Component, l.Module))) is { } adapted)
            throw new InvalidOperationException($"{adapted.Component}.{adapted.Module} has adapters on it that are not merged for good. Take them off first, or add this one by {nameof(MergedLoras)}.");
        using Scalar factor = strength.ToScalar();
        foreach (var layer in Layers.Where(l => components(l.Component)))
        {
            using var scope = NewDisposeScope();
            var weight = names.Weight(layer.Component, layer.Module);
            var product = layer.Product(weight.shape).to(weight.device);
            weight.copy_(weight.to(product.dtype).add(product, factor));
        }
    }

    /// <summary>Frees the tensors.</summary>
    public void Dispose() => Free(Layers);

    /// <exception cref="ArgumentException">An adapter does not fit the model.</exception>
    internal LoraNames ThrowIfUnfit(StableDiffusionModel model)
    {
        var names = new LoraNames(model);
        return Layers.FirstOrDefault(l => !names.Knows(l.Component, l.Module) || !l.Fits(names.Weight(l.Component, l.Module).shape)) is not { } foreign ? names
            : throw new ArgumentException($"The adapter of {foreign.Component}.{foreign.Module} does not fit this model. Pass the model that the LoRA was trained for.", nameof(model));
    }

    internal static bool IsPart(string name) => Split(name) is { Kind: not Part.Alpha };

    internal static bool IsDown(string name) => Split(name) is { Kind: Part.Down };

    internal void Compare(string path, StableDiffusionModel model)
    {
        using var read = Read(path, model);
        using var scope = NewDisposeScope();
        var names = new LoraNames(model);
        var byLayer = read.Layers.ToDictionary(l => (l.Component, l.Module));
        foreach (var layer in Layers)
        {
            var shape = names.Weight(layer.Component, layer.Module).shape;
            // Alpha is a float32 in one dialect and a decimal in the other.
            if (byLayer.Count != Layers.Count || !byLayer.TryGetValue((layer.Component, layer.Module), out var other) || !other.Product(shape).allclose(layer.Product(shape), rtol: 1e-6, atol: 0))
                throw new SafetensorsException(path, null, $"does not hold the adapter of {layer.Component}.{layer.Module} that was written. Check the disk and write it again.");
        }
    }

    internal static void WriteDiffusers(string path, IReadOnlyList<LoraLayer> layers, IReadOnlyDictionary<string, string>? metadata) => SafetensorsWriter.Write(
        path,
        layers.SelectMany(l => new[] { ($"{l.Component}.{l.Module}.lora_A.weight", l.Down), ($"{l.Component}.{l.Module}.lora_B.weight", l.Up) }).ToDictionary(p => p.Item1, p => p.Item2),
        LoraMetadata.Diffusers(layers, metadata));

    private enum Part
    {
        Down,
        Up,
        Alpha,
    }

    private static (string Layer, Part Kind)? Split(string name)
    {
        if (name.EndsWith(".alpha", StringComparison.Ordinal))
            return (name[..^".alpha".Length], Part.Alpha);
        foreach (var (down, up) in Endings)
        {
            if (name.EndsWith(down, StringComparison.Ordinal))
                return (name[..^down.Length], Part.Down);
            if (name.EndsWith(up, StringComparison.Ordinal))
                return (name[..^up.Length], Part.Up);
        }

        return null;
    }

    private static (string Component, string Module)? Resolve(string layer, LoraNames names, string? fixedComponent)
    {
        layer = WithoutLevel(layer);
        if (fixedComponent is not null)
            return names.Knows(fixedComponent, layer) ? (fixedComponent, layer) : null;
        if (layer.StartsWith("lora_", StringComparison.Ordinal))
            return names.FromKohya(layer);
        var component = names.Networks.Keys.FirstOrDefault(c => layer.StartsWith(c + ".", StringComparison.Ordinal));
        var module = component is null ? layer : layer[(component.Length + 1)..];
        component ??= LoraNames.Unet;
        // The attention processors of diffusers before PEFT: attn1.processor.to_out_lora for attn1.to_out.0.
        module = module.Replace(".processor.", ".", StringComparison.Ordinal);
        if (module.EndsWith(".to_out", StringComparison.Ordinal))
            module += ".0";
        return names.Knows(component, module) ? (component, module) : null;
    }

    private static double Alpha(SafetensorsFile file, string? name, (string Component, string Module) layer, int rank)
    {
        double? alpha = null;
        if (name is not null)
        {
            if (file.Shape(name).Aggregate(1L, (a, b) => a * b) != 1)
                throw new SafetensorsException(file.Path, name, $"has shape [{string.Join(", ", file.Shape(name))}], but alpha is one number.");
            using var value = file.Read(name).to(float64);
            alpha = value.reshape(1).data<double>()[0];
        }
        else if (file.Metadata.TryGetValue("lora_adapter_metadata", out var json))
        {
            alpha = PeftConfig.OfMetadata(file.Path, json, layer.Component)?.AlphaOf(layer.Module, rank);
        }
        else if (file.Metadata.TryGetValue("alpha", out var text) && double.TryParse(text, CultureInfo.InvariantCulture, out var all))
        {
            // Files of this library's first version.
            alpha = all;
        }

        // Zero or nothing means the rank, as in sd-scripts.
        return alpha is null or 0 ? rank : double.IsFinite(alpha.Value) ? alpha.Value : throw new SafetensorsException(file.Path, name, $"has an alpha of {alpha}.");
    }

    private static void Free(IReadOnlyList<LoraLayer> layers)
    {
        foreach (var layer in layers)
        {
            layer.Down.Dispose();
            layer.Up.Dispose();
        }
    }
}
