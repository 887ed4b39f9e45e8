using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;

namespace AdjointDpm.Models.Files;

/// <summary>A model on this machine, from headers and configurations alone.</summary>
/// <param name="Path">Its file or folder.</param>
/// <param name="Kind">Such as <c>diffusers folder</c>, <c>single-file checkpoint</c>, <c>LoRA</c>, <c>textual inversion</c>, <c>weights</c>.</param>
/// <param name="Model">Which model it is or is for, or the class of its network; null when it does not say.</param>
/// <param name="Bytes">Bytes of all its files.</param>
/// <param name="Precision">Number formats of its weights, the one with most bytes first: float32, float16, …; empty when it has no safetensors.</param>
/// <param name="Problem">Why it cannot be read; null when nothing was found wrong.</param>
public sealed record ListedModel(string Path, string Kind, string? Model, long Bytes, IReadOnlyList<string> Precision, string? Problem);

/// <summary>Finds models in folders, however the program arranged them that put them there.</summary>
public static class ModelList
{
    /// <summary>Folders in a folder that are looked through: interfaces sort their models two or three deep.</summary>
    private const int MostDeep = 4;

    private static readonly string[] Indices = ["model_index.json", PeftConfig.File, "config.json"];

    /// <summary>All models in a folder and the folders in it; the folder itself when it is one. A file or folder inside a model is part of it.</summary>
    /// <param name="folder">The folder.</param>
    /// <returns>In the order of their paths; empty when the folder is missing or holds none.</returns>
    public static IReadOnlyList<ListedModel> In(string folder)
    {
        var found = new List<ListedModel>();
        if (Directory.Exists(folder))
            Add(Path.GetFullPath(folder), MostDeep, found);
        return [.. found.OrderBy(m => m.Path, StringComparer.Ordinal)];
    }

    private static void Add(string folder, int deep, List<ListedModel> found)
    {
        string[] files, folders;
        try
        {
            (files, folders) = (Directory.GetFiles(folder), Directory.GetDirectories(folder));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return; // what may not be read is nobody's model here
        }

        if (files.Any(f => Indices.Contains(Path.GetFileName(f))))
        {
            found.Add(OfFolder(folder));
            return;
        }

        found.AddRange(files.Where(IsWeights).Select(OfFile));
        foreach (var next in deep > 0 ? folders.Where(f => !Path.GetFileName(f).StartsWith('.')) : [])
            Add(next, deep - 1, found);
    }

    private static ListedModel OfFile(string path)
    {
        var bytes = Length(path);
        try
        {
            var report = ModelFile.Inspect(path);
            return new(path, report.Kind, Fact(report, "model"), bytes, Precisions(report.Tensors), Fact(report, "because"));
        }
        catch (Exception e) when (e is SafetensorsException or IOException or UnauthorizedAccessException)
        {
            return new(path, "unreadable", null, bytes, [], e.Message);
        }
    }

    private static ListedModel OfFolder(string folder)
    {
        var files = new List<string>();
        var unread = AddFiles(folder, files);
        var (kind, model, problem) = Said(folder);
        var bytes = 0L;
        try
        {
            bytes = files.Sum(Length);
            if (kind == "diffusers folder")
            {
                var report = ModelFile.Inspect(folder);
                model = Fact(report, "model") ?? Fact(report, "network");
            }

            return new(folder, kind, model, bytes, Precisions(files.Where(IsWeights).SelectMany(TensorsOf)), problem ?? unread);
        }
        catch (Exception e) when (e is SafetensorsException or ModelConfigException or IOException or UnauthorizedAccessException)
        {
            return new(folder, kind, model, bytes, [], unread ?? e.Message);
        }
    }

    /// <summary>All files in a folder and those in it; links to folders are not followed, since they may lead back.</summary>
    /// <returns>Why some could not be looked at; null when all were.</returns>
    private static string? AddFiles(string folder, List<string> files)
    {
        try
        {
            files.AddRange(Directory.GetFiles(folder));
            string? problem = null;
            foreach (var next in Directory.GetDirectories(folder).Where(f => new DirectoryInfo(f).LinkTarget is null))
                problem = AddFiles(next, files) ?? problem;
            return problem;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }

    /// <summary>What a folder's configuration says it is; only what is read here is looked at more closely.</summary>
    private static (string Kind, string? Model, string? Problem) Said(string folder)
    {
        var index = Indices.Select(name => Path.Combine(folder, name)).First(File.Exists);
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(index));
            var its = ModelConfig.Text(json.RootElement, "_class_name");
            return Path.GetFileName(index) switch
            {
                "model_index.json" when its is "StableDiffusionPipeline" or "StableDiffusionXLPipeline" or "DDIMPipeline" or "DDPMPipeline" => ("diffusers folder", its, null),
                "model_index.json" when its is "StableDiffusion3Pipeline" => ("diffusers folder", its, "Its transformer and autoencoder are read by the library alone: no command encodes its texts."),
                "model_index.json" => ("diffusers folder of another kind", its, $"Pipelines of class {its ?? "unknown"} are not read."),
                PeftConfig.File => (ModelConfig.Text(json.RootElement, "peft_type") is "LORA" ? "PEFT LoRA" : "PEFT adapter", ModelConfig.Text(json.RootElement, "base_model_name_or_path"), null),
                _ when its is "UNet2DModel" or "UNet2DConditionModel" => ("diffusers folder", its, null),
                _ => ("other", its ?? (json.RootElement.TryGetProperty("architectures", out var all) && all.ValueKind == JsonValueKind.Array && all.GetArrayLength() > 0 ? all[0].ToString() : ModelConfig.Text(json.RootElement, "model_type")), null),
            };
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            return ("unreadable", null, $"{index}: {e.Message}");
        }
    }

    private static List<TensorReport> TensorsOf(string path)
    {
        using var file = SafetensorsFile.Open(path);
        return ModelFile.Tensors(file);
    }

    private static List<string> Precisions(IEnumerable<TensorReport> tensors)
    {
        var bytes = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var tensor in tensors)
        {
            var type = SafetensorsHeader.Called(tensor.Dtype);
            bytes[type] = bytes.GetValueOrDefault(type) + (ModelFile.Count(tensor.Shape) * SafetensorsHeader.SizeOf(tensor.Dtype));
        }

        // Counters and positions are no weights.
        return [.. bytes.Where(b => b.Key.Contains("float", StringComparison.Ordinal) || bytes.Count == 1).OrderByDescending(b => b.Value).ThenBy(b => b.Key, StringComparer.Ordinal).Select(b => b.Key)];
    }

    private static bool IsWeights(string path) => Path.GetExtension(path).Equals(".safetensors", StringComparison.OrdinalIgnoreCase);

    // Of what a link leads to: caches keep their files elsewhere. A link that leads nowhere has none.
    private static long Length(string path)
    {
        var file = new FileInfo(path);
        return file.LinkTarget is null ? file.Length : file.ResolveLinkTarget(returnFinalTarget: true) is FileInfo { Exists: true } target ? target.Length : 0;
    }

    private static string? Fact(ModelFileReport report, string name) => report.Facts.Where(f => f.Key == name).Select(f => f.Value).FirstOrDefault();
}
