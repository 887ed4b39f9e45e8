using TorchSharp;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>The layers of a model that a LoRA can adapt, by the names of both dialects.</summary>
internal sealed class LoraNames
{
    public const string Unet = "unet";
    private readonly Dictionary<string, (string Component, string Module)> _byKohya = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Component, string Module), string> _kohya = [];

    public LoraNames(StableDiffusionModel model)
    {
        Networks.Add(Unet, model.Unet);
        foreach (var module in Modules(model.Unet))
        {
            // kohya trains SDXL on LDM's own network, and other programs write its names too; diffusers' are read as well.
            Name("lora_unet_", module, Unet, module, main: !model.IsXl);
            if (model.IsXl)
                Name("lora_unet_", SingleFileNames.OfUnet(module, model.Unet.Config), Unet, module, main: true);
        }

        for (var i = 0; i < model.TextEncoders.Count; i++)
        {
            var component = i == 0 ? "text_encoder" : $"text_encoder_{i + 1}";
            Networks.Add(component, model.TextEncoders[i]);
            foreach (var module in Modules(model.TextEncoders[i]))
            {
                Name($"lora_te{i + 1}_", module, component, module, main: model.IsXl);
                if (!model.IsXl)
                    Name("lora_te_", module, component, module, main: true);
            }
        }
    }

    /// <summary>The networks by component: unet, text_encoder, text_encoder_2.</summary>
    public Dictionary<string, torch.nn.Module> Networks { get; } = new(StringComparer.Ordinal);

    public (string Component, string Module)? FromKohya(string name) => _byKohya.TryGetValue(name, out var found) ? found : null;

    public string ToKohya(string component, string module) => _kohya[(component, module)];

    public bool Knows(string component, string module) => _kohya.ContainsKey((component, module));

    /// <summary>The weight that a layer adapts.</summary>
    public torch.Tensor Weight(string component, string module) => Networks[component].get_parameter(module + ".weight")!;

    private void Name(string prefix, string path, string component, string module, bool main)
    {
        var name = prefix + path.Replace('.', '_');
        _byKohya.TryAdd(name, (component, module));
        if (main)
            _kohya[(component, module)] = name;
    }

    private static IEnumerable<string> Modules(torch.nn.Module network) =>
        network.named_modules().Where(m => m.module is TorchSharp.Modules.Linear or TorchSharp.Modules.Conv2d).Select(m => m.name);
}
