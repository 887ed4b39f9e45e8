using System.Globalization;
using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Transformers;

namespace AdjointDpm.Models.Files;

/// <summary>Says what files and folders hold, without reading their weights.</summary>
public static class ModelFile
{
    /// <summary>Looks at a safetensors file, a folder of diffusers or PEFT, or a PNG picture.</summary>
    /// <param name="path">The file or folder.</param>
    /// <exception cref="SafetensorsException">The file is missing, damaged or a pickle.</exception>
    /// <exception cref="ModelConfigException">The folder is none of diffusers', or its configurations are malformed.</exception>
    /// <exception cref="InvalidDataException">The picture is damaged.</exception>
    public static ModelFileReport Inspect(string path)
    {
        if (File.Exists(Path.Combine(path, PeftConfig.File)))
            return OfPeft(path);
        if (File.Exists(Path.Combine(path, "model_index.json")) && Directory.Exists(Path.Combine(path, "transformer")))
            return OfStableDiffusion3(path);
        if (Directory.Exists(path))
            return File.Exists(Path.Combine(path, "model_index.json")) && DiffusersFolder.Open(path).UnetClass == "UNet2DConditionModel" ? OfPipeline(path) : OfNetwork(path);
        if (Path.GetExtension(path).Equals(".png", StringComparison.OrdinalIgnoreCase) && File.Exists(path))
        {
            var texts = PngText.Read(path);
            return new(path, "PNG picture", texts.TryGetValue("parameters", out var parameters) ? Picture.ReadParameters(parameters) : [], texts, []);
        }

        using var file = SafetensorsFile.Open(path);
        var tensors = Tensors(file);
        var (kind, facts) = Known(path, file, tensors);
        facts.AddRange(Sizes(tensors));
        return new(path, kind, facts, file.Metadata, tensors);
    }

    internal static List<TensorReport> Tensors(SafetensorsFile file) => [.. file.Names.Select(n => new TensorReport(n, file.Spelling(n), file.Shape(n)))];

    internal static long Count(IEnumerable<long> shape) => shape.Aggregate(1L, (a, b) => a * b);

    internal static bool IsLora(IEnumerable<string> names) => names.Any(n => LoraWeights.IsPart(n));

    internal static bool IsKohya(IEnumerable<string> names) => names.Any(n => n.StartsWith("lora_", StringComparison.Ordinal));

    internal static bool IsWord(SafetensorsFile file) =>
        file.Names is ["emb_params"] or ["clip_g", "clip_l"] || (file.Names.Count == 1 && file.Shape(file.Names[0]).Count is 1 or 2 && !file.Names[0].Contains('.', StringComparison.Ordinal));

    private static (string Kind, List<KeyValuePair<string, string>> Facts) Known(string path, SafetensorsFile file, List<TensorReport> tensors)
    {
        if (IsLora(file.Names))
            return ("LoRA", Lora(file));
        if (file.Contains("prompt_embeds"))
            return ("prompt embeddings", [new("prompts", Number(file.Shape("prompt_embeds")[0])), new("model", file.Contains("pooled_prompt_embeds") ? "Stable Diffusion XL" : "Stable Diffusion 1 or 2")]);
        if (IsWord(file))
            return ("textual inversion", [new("vectors", Number(tensors[0].Shape.Count == 1 ? 1 : tensors[0].Shape[0])), new("width", string.Join(" and ", tensors.Select(t => t.Shape[^1])))]);
        if (file.Names.Any(n => n.StartsWith("model.diffusion_model.", StringComparison.Ordinal)))
        {
            try
            {
                return ("single-file checkpoint", [new("model", SingleFileCheckpoint.Detect(path, file.Names).Called()), new("prediction", SingleFilePrediction.Said(file.Names, file.Metadata) ?? "not told by its header")]);
            }
            catch (SafetensorsException e)
            {
                return ("checkpoint that is not supported", [new("because", e.Message)]);
            }
        }

        return ("weights", []);
    }

    private static List<KeyValuePair<string, string>> Lora(SafetensorsFile file)
    {
        var ranks = file.Names.Where(n => LoraWeights.IsDown(n) && file.Shape(n).Count > 0).Select(n => file.Shape(n)[0]).Order().Distinct().ToList();
        var xl = file.Names.Any(n => n.StartsWith("lora_te2_", StringComparison.Ordinal) || n.StartsWith("text_encoder_2.", StringComparison.Ordinal) || n.StartsWith("lora_unet_input_blocks", StringComparison.Ordinal) || n.StartsWith("lora_unet_output_blocks", StringComparison.Ordinal));
        // The first projection of a text's states is as wide as they are.
        var width = file.Names.Where(n => n.Contains("attn2", StringComparison.Ordinal) && n.Contains("to_k", StringComparison.Ordinal) && LoraWeights.IsDown(n) && file.Shape(n).Count > 1).Select(n => file.Shape(n)[1]).FirstOrDefault();
        var facts = new List<KeyValuePair<string, string>>
        {
            new("dialect", IsKohya(file.Names) ? "kohya" : "diffusers"),
            new("model", xl || width == 2048 ? "Stable Diffusion XL" : width switch { 768 => "Stable Diffusion 1", 1024 => "Stable Diffusion 2", _ => "not told by its tensors" }),
            new("layers", Number(file.Names.Count(LoraWeights.IsDown))),
            new("rank", ranks.Count == 1 ? Number(ranks[0]) : $"{ranks.FirstOrDefault()} to {ranks.LastOrDefault()}"),
        };
        if (file.Metadata.TryGetValue("ss_network_alpha", out var alpha))
            facts.Add(new("alpha", alpha));
        else if (!file.Metadata.ContainsKey("lora_adapter_metadata") && !file.Names.Any(n => n.EndsWith(".alpha", StringComparison.Ordinal)))
            facts.Add(new("alpha", "not told: loaders take the rank"));
        return facts;
    }

    private static ModelFileReport OfPeft(string path)
    {
        var config = PeftConfig.Read(path);
        using var file = SafetensorsFile.Open(Path.Combine(path, PeftConfig.WeightsFile));
        var tensors = Tensors(file);
        return new(path, "PEFT LoRA", [new("layers", Number(file.Names.Count(LoraWeights.IsDown))), new("rank", Number(config.Rank)), new("alpha", config.Alpha.ToString("R", CultureInfo.InvariantCulture)), .. Sizes(tensors)], file.Metadata, tensors);
    }

    private static ModelFileReport OfPipeline(string path)
    {
        var folder = StableDiffusionFolder.Open(path);
        var config = folder.ReadConfig();
        List<KeyValuePair<string, string>> facts =
        [
            new("model", config.Kind.Called()),
            new("prediction", config.Scheduler.PredictionType),
            new("scheduler", config.Scheduler.ClassName),
            .. Clipped(config.Scheduler),
            new("channels", string.Join(", ", config.Unet.BlockOutChannels)),
            new("text width", string.Join(" + ", config.TextEncoders.Select(t => t.HiddenSize))),
        ];
        if (config.Unet.SampleSize is { } size)
            facts.Add(new("picture", string.Join(" × ", size.Values.Select(s => s * config.Autoencoder.Reduction).Distinct()) + " pixels a side"));
        foreach (var (part, file) in folder.WeightFilesByPart())
        {
            using var weights = WeightFiles.Open(file);
            facts.Add(new(part, $"{weights.Names.Count} tensors, {Number(weights.Names.Sum(n => Count(weights.Shape(n))))} parameters"));
        }

        return new(path, "diffusers folder", facts, new Dictionary<string, string>(), []);
    }

    // Samples are not clipped on their way here: pictures of such a scheduler differ from diffusers'.
    private static IEnumerable<KeyValuePair<string, string>> Clipped(SchedulerConfig scheduler) => scheduler.Clips ? [new("clipping", "clip_sample is on for its scheduler in diffusers, and not applied here")] : [];

    private static IEnumerable<KeyValuePair<string, string>> Clipped(DiffusersFolder folder)
    {
        try
        {
            return folder.SchedulerConfigPath is null ? [] : Clipped(folder.ReadScheduler());
        }
        catch (ModelConfigException)
        {
            return []; // a schedule that is not read here is no reason not to say what the network is
        }
    }

    private static ModelFileReport OfStableDiffusion3(string path)
    {
        var folder = StableDiffusion3Folder.Open(path);
        var (config, scheduler) = (folder.ReadConfig(), folder.ReadScheduler());
        using var weights = WeightFiles.Open(folder.WeightsFile());
        return new(path, "diffusers folder", [
            new("model", config.QkNorm is null ? "Stable Diffusion 3" : "Stable Diffusion 3.5"),
            new("prediction", scheduler.IsFlow ? "flow" : scheduler.PredictionType),
            new("scheduler", scheduler.ClassName),
            new("blocks", FormattableString.Invariant($"{config.NumLayers} of {config.NumAttentionHeads} heads, {config.Width} wide")),
            new("text width", Number(config.JointAttentionDim)),
            new("transformer", $"{weights.Names.Count} tensors, {Number(weights.Names.Sum(n => Count(weights.Shape(n))))} parameters"),
        ], new Dictionary<string, string>(), []);
    }

    private static ModelFileReport OfNetwork(string path)
    {
        var folder = DiffusersFolder.Open(path);
        using var weights = WeightFiles.Open(WeightFiles.Find(folder.UnetFolder, "diffusion_pytorch_model"));
        return new(path, "diffusers folder", [new("network", folder.UnetClass), .. Clipped(folder), new("tensors", Number(weights.Names.Count)), new("parameters", Number(weights.Names.Sum(n => Count(weights.Shape(n)))))], new Dictionary<string, string>(), []);
    }

    private static IEnumerable<KeyValuePair<string, string>> Sizes(List<TensorReport> tensors)
    {
        yield return new("tensors", Number(tensors.Count));
        yield return new("parameters", Number(tensors.Sum(t => Count(t.Shape))));
        yield return new("dtypes", string.Join(", ", tensors.GroupBy(t => t.Dtype).OrderByDescending(g => g.Count()).Select(g => $"{g.Key} × {g.Count()}")));
    }

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
