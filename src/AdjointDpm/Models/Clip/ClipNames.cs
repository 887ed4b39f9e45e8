using AdjointDpm.Formats;
using TorchSharp;

namespace AdjointDpm.Models.Clip;

/// <summary>The names of tensors in files of CLIP, which may hold both of its towers.</summary>
internal static class ClipNames
{
    /// <summary>One tower out of a folder's <c>model.safetensors</c>, in float32 on the CPU, without gradients of its own.</summary>
    /// <param name="folder">Where the weights lie.</param>
    /// <param name="make">Builds the tower.</param>
    /// <param name="other">The tower that is passed over where it is there: <c>text</c> or <c>visual</c>.</param>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit. Nothing stays loaded.</exception>
    public static T Tower<T>(string folder, Func<T> make, string other)
        where T : torch.nn.Module
    {
        var (network, projection) = (other == "text" ? "text_model." : "vision_model.", $"{other}_projection.weight");
        return Layers.Constant(ModuleWeights.Loaded(make, WeightFiles.Find(folder, "model"), name =>
            name.StartsWith(network, StringComparison.Ordinal) || name == projection || name == "logit_scale" ? null : Current(name)));
    }

    /// <summary>The network's name of a tensor; null for one that is passed over.</summary>
    /// <remarks>Old releases of transformers stored the row 0, 1, 2, … of positions as a tensor.</remarks>
    public static string? Current(string name) => name.EndsWith("embeddings.position_ids", StringComparison.Ordinal) ? null : name;
}
