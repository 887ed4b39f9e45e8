using AdjointDpm.Formats;

namespace AdjointDpm.Models.StableDiffusion;

public sealed partial class LoraWeights
{
    private const string PeftLevel = "base_model.model.";

    /// <summary>Writes what PEFT's <c>PeftModel.from_pretrained</c> loads: for each network a folder with <c>adapter_config.json</c> and <c>adapter_model.safetensors</c>, read back and compared.</summary>
    /// <param name="folder">The folder; made when missing. Adapters of one network lie in it, those of several in folders in it, named unet, text_encoder and text_encoder_2.</param>
    /// <param name="model">The model it is for.</param>
    /// <param name="baseModel">Name or path of that model for <c>base_model_name_or_path</c>. Default: none.</param>
    /// <returns>The files that were written.</returns>
    /// <exception cref="SafetensorsException">The files do not say what was written. They are removed then.</exception>
    public IReadOnlyList<string> WritePeft(string folder, StableDiffusionModel model, string? baseModel = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        var names = new LoraNames(model);
        if (Layers.FirstOrDefault(l => !names.Knows(l.Component, l.Module)) is { } foreign)
            throw new ArgumentException($"The model has no layer {foreign.Component}.{foreign.Module}. Pass the model that the LoRA was trained for.", nameof(model));
        var components = Layers.GroupBy(l => l.Component).ToList();
        var files = new List<string>();
        try
        {
            foreach (var component in components)
            {
                var place = components.Count == 1 ? folder : Path.Combine(folder, component.Key);
                files.AddRange([Path.Combine(place, PeftConfig.File), Path.Combine(place, PeftConfig.WeightsFile)]);
                List<LoraLayer> layers = [.. component];
                PeftConfig.Write(place, layers, names.Networks[component.Key].GetType().Name, baseModel);
                SafetensorsWriter.Write(
                    files[^1],
                    layers.SelectMany(l => new[] { ($"{PeftLevel}{l.Module}.lora_A.weight", l.Down), ($"{PeftLevel}{l.Module}.lora_B.weight", l.Up) }).ToDictionary(p => p.Item1, p => p.Item2),
                    new Dictionary<string, string> { ["format"] = "pt" });
            }

            Compare(folder, model);
            return files;
        }
        catch
        {
            files.ForEach(File.Delete);
            throw;
        }
    }

    private static LoraWeights ReadPeft(string folder, StableDiffusionModel model)
    {
        var names = new LoraNames(model);
        if (File.Exists(Path.Combine(folder, PeftConfig.File)))
            return ReadPeft(folder, model, ComponentOf(folder, names));
        var parts = names.Networks.Keys.Where(c => File.Exists(Path.Combine(folder, c, PeftConfig.File))).ToList();
        if (parts.Count == 0)
            throw new ModelConfigException($"{Path.Combine(folder, PeftConfig.File)}: there is no such file, nor one in {string.Join(" or ", names.Networks.Keys)} of that folder. Point to a LoRA file, or to a folder that PEFT wrote.");
        var read = new List<LoraWeights>();
        try
        {
            foreach (var part in parts)
                read.Add(ReadPeft(Path.Combine(folder, part), model, part));
            return new([.. read.SelectMany(r => r.Layers)], new Dictionary<string, string>());
        }
        catch
        {
            read.ForEach(r => r.Dispose());
            throw;
        }
    }

    private static LoraWeights ReadPeft(string folder, StableDiffusionModel model, string component)
    {
        var config = PeftConfig.Read(folder);
        var pickled = Path.Combine(folder, "adapter_model.bin");
        var weights = Path.Combine(folder, PeftConfig.WeightsFile);
        if (!File.Exists(weights) && File.Exists(pickled))
            throw new SafetensorsException(weights, null, "there is no such file, only the pickled 'adapter_model.bin', which can run any code and is not read. Save it with safe_serialization.");
        return Read(weights, model, component, config.AlphaOf);
    }

    /// <summary>The network that a folder's layers belong to: the configuration tells its class at most, and both of SDXL's texts have the same.</summary>
    private static string ComponentOf(string folder, LoraNames names)
    {
        using var file = SafetensorsFile.Open(Path.Combine(folder, PeftConfig.WeightsFile));
        var layers = file.Names.Where(IsDown).Select(n => (Name: n, Module: WithoutLevel(Split(n)!.Value.Layer))).ToList();
        var fitting = names.Networks.Keys.Where(c => layers.Count > 0 && layers.All(l => names.Knows(c, l.Module) && file.Shape(l.Name).Skip(1).Aggregate(1L, (a, b) => a * b) == names.Weight(c, l.Module).shape[1..].Aggregate(1L, (a, b) => a * b))).ToList();
        return fitting.Count switch
        {
            1 => fitting[0],
            0 => throw new SafetensorsException(file.Path, layers.Count > 0 ? layers[0].Name : null, "is an adapter that no network of this model has the layers for. Check that it was trained for this model."),
            _ => throw new SafetensorsException(file.Path, null, $"fits {string.Join(" and ", fitting)} alike. Put its folder into one of that name and point to the folder around it."),
        };
    }

    /// <summary>A layer's path without the network around it that PEFT puts there.</summary>
    private static string WithoutLevel(string layer) => layer.Replace(PeftLevel, "", StringComparison.Ordinal);
}
