using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using TorchSharp;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>The strings in headers of LoRA files by which other programs know rank, alpha and base model.</summary>
internal static class LoraMetadata
{
    /// <summary>diffusers' <c>lora_adapter_metadata</c>: PEFT's configuration for each component, without which loaders take alpha for the rank.</summary>
    public static Dictionary<string, string> Diffusers(IReadOnlyList<LoraLayer> layers, IReadOnlyDictionary<string, string>? more)
    {
        var all = new JsonObject();
        foreach (var component in layers.GroupBy(l => l.Component))
        {
            var (rank, alpha) = component.GroupBy(l => (l.Rank, l.Alpha)).OrderByDescending(g => g.Count()).First().Key;
            all[$"{component.Key}.r"] = rank;
            all[$"{component.Key}.lora_alpha"] = alpha;
            all[$"{component.Key}.target_modules"] = new JsonArray([.. component.Select(l => (JsonNode)l.Module)]);
            all[$"{component.Key}.rank_pattern"] = new JsonObject(component.Where(l => l.Rank != rank).Select(l => KeyValuePair.Create(l.Module, (JsonNode?)l.Rank)));
            all[$"{component.Key}.alpha_pattern"] = new JsonObject(component.Where(l => l.Alpha != alpha).Select(l => KeyValuePair.Create(l.Module, (JsonNode?)l.Alpha)));
            all[$"{component.Key}.bias"] = "none";
        }

        return Joined(new() { ["format"] = "pt", ["lora_adapter_metadata"] = all.ToJsonString() }, more);
    }

    /// <summary>Writes sd-scripts' strings with the hash by which interfaces find a file's page.</summary>
    public static void WriteKohya(string path, Dictionary<string, torch.Tensor> tensors, LoraWeights weights, StableDiffusionModel model, IReadOnlyDictionary<string, string>? more)
    {
        var kind = SingleFileCheckpoint.KindOf(model);
        var velocity = model.Scheduler.PredictionType == "v_prediction";
        var strings = Joined(
            new()
            {
                ["ss_network_module"] = "networks.lora",
                ["ss_network_dim"] = One(weights.Layers.Select(l => (double)l.Rank)),
                ["ss_network_alpha"] = One(weights.Layers.Select(l => l.Alpha)),
                ["ss_base_model_version"] = kind switch { SingleFileKind.Sd1 => "sd_v1", SingleFileKind.Sd2 => velocity ? "sd_v2_v" : "sd_v2", _ => "sdxl_base_v1-0" },
                ["ss_v2"] = kind == SingleFileKind.Sd2 ? "True" : "False",
                ["modelspec.sai_model_spec"] = "1.0.1",
                ["modelspec.architecture"] = SingleFilePrediction.Architecture(model) + "/lora",
                ["modelspec.implementation"] = kind == SingleFileKind.Xl ? "https://github.com/Stability-AI/generative-models" : "https://github.com/Stability-AI/stablediffusion",
                ["modelspec.prediction_type"] = velocity ? "v" : "epsilon",
                ["modelspec.title"] = Path.GetFileNameWithoutExtension(path),
            },
            more);
        // The hash is of the data behind the header, which the strings do not change.
        SafetensorsWriter.Write(path, tensors, strings);
        using (var stream = File.OpenRead(path))
        {
            var length = new byte[8];
            stream.ReadExactly(length);
            stream.Seek(8 + BitConverter.ToInt64(length), SeekOrigin.Begin);
            strings["sshs_model_hash"] = Convert.ToHexStringLower(SHA256.HashData(stream));
        }

        SafetensorsWriter.Write(path, tensors, strings);
    }

    private static string One(IEnumerable<double> values) => values.Distinct().ToList() is [var only] ? only.ToString("R", CultureInfo.InvariantCulture) : "Dynamic";

    private static Dictionary<string, string> Joined(Dictionary<string, string> strings, IReadOnlyDictionary<string, string>? more)
    {
        foreach (var (key, value) in more ?? new Dictionary<string, string>())
            strings[key] = value;
        return strings;
    }
}
