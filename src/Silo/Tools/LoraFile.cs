using System.Globalization;
using AdjointDpm.Models.StableDiffusion;

namespace AdjointDpm.Silo.Tools;

/// <summary>LoRA files as commands name them: a path, with the strength behind a colon where that is not 1.</summary>
internal static class LoraFile
{
    /// <summary>Adds one to a model's weights, for good.</summary>
    public static void Merge(StableDiffusionModel model, string given)
    {
        var (file, strength) = (given, 1.0);
        var colon = given.LastIndexOf(':');
        if (!Path.Exists(given) && colon > 0 && double.TryParse(given.AsSpan(colon + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var number))
            (file, strength) = (given[..colon], number);
        using var lora = LoraWeights.Read(file, model);
        lora.Merge(model, strength);
    }
}
