using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Formats;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>PEFT's <c>adapter_config.json</c>: rank and alpha of a network's adapters, and what else they are.</summary>
/// <remarks>Fields of PEFT's <c>LoraConfig</c>. Those that change what an adapter adds and are not computed here are refused by name, not passed over.</remarks>
internal sealed record PeftConfig
{
    public const string File = "adapter_config.json", WeightsFile = "adapter_model.safetensors";

    private static readonly TimeSpan MatchWithin = TimeSpan.FromSeconds(1);

    private PeftConfig(string path) => Path = path;

    public string Path { get; }

    public int Rank { get; private init; }

    public double Alpha { get; private init; }

    /// <summary>The product is scaled by alpha / √r, not alpha / r.</summary>
    public bool IsRankStabilized { get; private init; }

    public IReadOnlyList<KeyValuePair<string, double>> Alphas { get; private init; } = [];

    public static PeftConfig Read(string folder)
    {
        var path = System.IO.Path.Combine(folder, File);
        if (!System.IO.File.Exists(path))
            throw new ModelConfigException($"{path}: there is no such file. A folder of PEFT holds {File} beside {WeightsFile}.");
        try
        {
            using var json = JsonDocument.Parse(System.IO.File.ReadAllBytes(path));
            return ModelConfig.Text(json.RootElement, "peft_type") is "LORA" ? Of(path, json.RootElement)
                : throw Refused(path, "peft_type", ModelConfig.Text(json.RootElement, "peft_type") ?? "absent", "LORA is read");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException and not ModelConfigException)
        {
            throw new ModelConfigException($"{path}: is not what PEFT writes ({e.Message})", e);
        }
    }

    /// <summary>What the string <c>lora_adapter_metadata</c> of a diffusers file says of one network; null when it does not speak of it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="metadata">The string: fields of PEFT's configuration, each behind the network's name and a dot.</param>
    /// <param name="component">The network.</param>
    /// <exception cref="SafetensorsException">The string is malformed.</exception>
    /// <exception cref="ModelConfigException">It tells of an adapter that is not read here.</exception>
    public static PeftConfig? OfMetadata(string path, string metadata, string component)
    {
        try
        {
            using var json = JsonDocument.Parse(metadata);
            var fields = json.RootElement.EnumerateObject().Where(p => p.Name.StartsWith(component + ".", StringComparison.Ordinal)).ToDictionary(p => p.Name[(component.Length + 1)..], p => p.Value);
            return fields.Count == 0 ? null : Of(path, JsonSerializer.SerializeToElement(fields));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException and not ModelConfigException)
        {
            throw new SafetensorsException(path, null, $"lora_adapter_metadata is not what PEFT writes ({e.Message})", e);
        }
    }

    /// <summary>Alpha of a layer, such that the product is scaled by alpha / r.</summary>
    public double AlphaOf(string module, int rank)
    {
        var alpha = Alphas.Where(p => Matches(p.Key, module)).Select(p => (double?)p.Value).FirstOrDefault() ?? Alpha;
        return IsRankStabilized ? alpha * Math.Sqrt(rank) : alpha;
    }

    private static PeftConfig Of(string path, JsonElement root)
    {
        foreach (var field in new[] { "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora" })
            if (root.TryGetProperty(field, out var flag) && flag.ValueKind == JsonValueKind.True)
                throw Refused(path, field, "true", "false is read");
        if (ModelConfig.Text(root, "bias") is { } bias && bias != "none")
            throw Refused(path, "bias", bias, "none is read");
        if (root.TryGetProperty("modules_to_save", out var saved) && saved.ValueKind == JsonValueKind.Array && saved.GetArrayLength() > 0)
            throw Refused(path, "modules_to_save", saved.ToString(), "adapters without whole layers beside them are read");
        // These begin by changing the base weights, which the released model does not have.
        if (ModelConfig.Text(root, "init_lora_weights") is { } begun && (begun.StartsWith("pissa", StringComparison.Ordinal) || begun is "olora" or "corda" or "loftq"))
            throw Refused(path, "init_lora_weights", begun, "adapters that leave the base weights as they are are read; save it converted (path_initial_model_for_weight_conversion)");
        return new(path)
        {
            Rank = root.TryGetProperty("r", out var r) ? r.GetInt32() : 8,
            Alpha = root.TryGetProperty("lora_alpha", out var alpha) && alpha.ValueKind == JsonValueKind.Number ? alpha.GetDouble() : 8,
            IsRankStabilized = root.TryGetProperty("use_rslora", out var stable) && stable.ValueKind == JsonValueKind.True,
            Alphas = root.TryGetProperty("alpha_pattern", out var pattern) && pattern.ValueKind == JsonValueKind.Object ? [.. pattern.EnumerateObject().Select(p => KeyValuePair.Create(p.Name, p.Value.GetDouble()))] : [],
        };
    }

    public static void Write(string folder, IReadOnlyList<LoraLayer> layers, string network, string? baseModel)
    {
        var (rank, alpha) = layers.GroupBy(l => (l.Rank, l.Alpha)).OrderByDescending(g => g.Count()).First().Key;
        ModelConfig.Write(System.IO.Path.Combine(folder, File), new JsonObject
        {
            ["alpha_pattern"] = new JsonObject(layers.Where(l => l.Alpha != alpha).Select(l => KeyValuePair.Create(l.Module, (JsonNode?)l.Alpha))),
            ["auto_mapping"] = new JsonObject { ["base_model_class"] = network, ["parent_library"] = network == "UNet2DConditionModel" ? "diffusers.models.unets.unet_2d_condition" : "transformers.models.clip.modeling_clip" },
            ["base_model_name_or_path"] = baseModel,
            ["bias"] = "none",
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
            ["init_lora_weights"] = true,
            ["layers_pattern"] = null,
            ["layers_to_transform"] = null,
            ["lora_alpha"] = alpha,
            ["lora_dropout"] = 0.0,
            ["modules_to_save"] = null,
            ["peft_type"] = "LORA",
            ["r"] = rank,
            ["rank_pattern"] = new JsonObject(layers.Where(l => l.Rank != rank).Select(l => KeyValuePair.Create(l.Module, (JsonNode?)l.Rank))),
            ["revision"] = null,
            ["target_modules"] = new JsonArray([.. layers.Select(l => (JsonNode)l.Module)]),
            ["task_type"] = null,
            ["use_dora"] = false,
            ["use_rslora"] = false,
        });
    }

    /// <summary>As PEFT has it: a pattern is a regular expression for the end of a path, from a dot on.</summary>
    private bool Matches(string pattern, string module)
    {
        try
        {
            return Regex.IsMatch(module, $@"^(.*\.)?({pattern})$", RegexOptions.CultureInvariant, MatchWithin);
        }
        catch (Exception e) when (e is ArgumentException or RegexMatchTimeoutException)
        {
            throw new ModelConfigException($"{Path}: alpha_pattern '{pattern}' is no regular expression for names of layers ({e.Message})", e);
        }
    }

    private static ModelConfigException Refused(string path, string field, string value, string instead) => new($"{path}: {field} is {value}; {instead}. Merge the adapter into its model with PEFT first.");
}
