using AdjointDpm.Formats;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models;
using AdjointDpm.Models.Files;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>Brings a trial's result into a form that other programs load, by the names that they look for, and says so only after it was read back and compared.</summary>
internal static class Pulling
{
    private const string ModelFolder = "model", LoraFolder = "lora", DiffusersLora = "pytorch_lora_weights.safetensors", KohyaLora = "lora.safetensors";

    public static ToolAnswer Run(PullRequest request, IProgress<ToolProgress> telling)
    {
        telling.Report(new("writing, and comparing what was written", 0, 0));
        NativeTorch.EnsureLoaded();
        return request.Form switch
        {
            "diffusers" => Model(request, IsFile(request.Output) ? throw new ArgumentException($"A diffusers model is a folder: '{request.Output}' must not end in .safetensors.") : request.Output),
            "single-file" => Model(request, IsFile(request.Output) ? request.Output : Path.Combine(request.Output, request.Name + ".safetensors")),
            "lora" or "kohya" or "peft" => Lora(request),
            "embedding" => Embedding(request),
            var other => throw new ArgumentException($"A result is pulled as diffusers, single-file, lora, kohya, peft or embedding, not as '{other}'."),
        };
    }

    private static ToolAnswer Model(PullRequest request, string output)
    {
        var folder = Part(request, ModelFolder, "tuned model");
        var diffusers = DiffusersFolder.Open(folder);
        if (diffusers.UnetClass == nameof(UNet2DConditionModel))
            return new ToolAnswer { Message = ModelConversion.Convert(folder, output, new(Dtype: DtypeNames.Read(request.Dtype))), Files = [output] };
        if (request.Form == "single-file")
            throw new ArgumentException($"'{folder}' holds a {diffusers.UnetClass}; single files are of Stable Diffusion. Pull it as diffusers.");
        using var network = diffusers.LoadUNet2D();
        if (DtypeNames.Read(request.Dtype) is { } dtype)
            network.to(dtype);
        DiffusersFolder.Save(output, network, diffusers.ReadScheduler());
        using var again = DiffusersFolder.Open(output).LoadUNet2D();
        var (written, read) = (network.state_dict(), again.state_dict());
        foreach (var (name, value) in written)
        {
            using var scope = NewDisposeScope();
            if (!value.to(read[name].dtype).Equals(read[name]))
                throw new SafetensorsException(output, name, "does not hold what was written. Check the disk and pull again.");
        }

        return new ToolAnswer { Message = $"A {nameof(UNet2DModel)} as a diffusers folder; read back, all {written.Count} tensors equal.", Files = [output] };
    }

    private static ToolAnswer Lora(PullRequest request)
    {
        var folder = Part(request, LoraFolder, "LoRA (train.target is not lora)");
        if (!File.Exists(Path.Combine(folder, KohyaLora)))
            throw new ArgumentException($"'{folder}' holds adapters of a network that draws pictures without text, which only this program reads: '{Path.Combine(folder, DiffusersLora)}'. Pull the tuned model with --as diffusers.");
        var basis = request.BaseModel is { } given && Path.Exists(given) ? given
            : throw new ArgumentException($"The model that the LoRA was trained on, '{request.BaseModel}', is not on this machine; without it what the files add to its weights cannot be compared with the tuned model. Name its folder or file with --model.");
        using var plain = StableDiffusionSource.At(basis, request.BasePrediction).Load();
        foreach (var lora in request.BaseLoras ?? [])
            LoraFile.Merge(plain, lora);
        using var trained = LoraWeights.Read(Path.Combine(folder, DiffusersLora), plain);
        Dictionary<string, string> about;
        using (var file = SafetensorsFile.Open(Path.Combine(folder, KohyaLora)))
            about = file.Metadata.Where(m => m.Key.StartsWith("ss_", StringComparison.Ordinal) && m.Key is not ("ss_network_dim" or "ss_network_alpha" or "ss_network_module")).ToDictionary();
        about["ss_output_name"] = request.Name;
        about["ss_training_comment"] = request.Source;
        var files = Written(request, trained, plain, about);
        try
        {
            using var tuned = StableDiffusionFolder.Open(Part(request, ModelFolder, "tuned model")).Load();
            var forms = request.Form == "peft" ? [request.Output] : files;
            foreach (var form in forms)
                MergedEquals(form, plain, tuned);
            return new ToolAnswer { Message = $"A LoRA of {trained.Layers.Count} layers as {(request.Form == "lora" ? "diffusers and kohya" : request.Form)}; read back and merged into '{Path.GetFileName(Path.TrimEndingDirectorySeparator(basis))}', every weight is the tuned model's.", Files = files };
        }
        catch
        {
            foreach (var file in files)
                File.Delete(file);
            throw;
        }
    }

    private static IReadOnlyList<string> Written(PullRequest request, LoraWeights trained, StableDiffusionModel plain, Dictionary<string, string> about)
    {
        var output = request.Output;
        switch (request.Form)
        {
            case "peft":
                return trained.WritePeft(IsFile(output) ? throw new ArgumentException($"PEFT's form is a folder: '{output}' must not end in .safetensors.") : output, plain);
            case "kohya":
                var file = IsFile(output) ? output : Path.Combine(output, request.Name + ".safetensors");
                trained.Write(file, LoraDialect.Kohya, plain, about);
                return [file];
            default:
                // By a file's name it is the one for interfaces; diffusers looks for its own beside it.
                return IsFile(output)
                    ? trained.WriteBoth(Path.GetDirectoryName(Path.GetFullPath(output))!, Path.GetFileNameWithoutExtension(output), plain, about)
                    : trained.WriteBoth(output, request.Name, plain, about);
        }
    }

    /// <summary>What a file adds to the model it was trained on must give the tuned model, in every weight. The model is as before afterwards.</summary>
    private static void MergedEquals(string path, StableDiffusionModel plain, StableDiffusionModel tuned)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        using var read = LoraWeights.Read(path, plain);
        // The model has its own bits again afterwards.
        using var merged = new MergedLoras(plain);
        merged.Add(read);
        foreach (var (mine, its) in Networks(plain).Zip(Networks(tuned)))
        {
            var expected = its.Network.state_dict();
            foreach (var (name, value) in mine.Network.state_dict())
            {
                using var inner = NewDisposeScope();
                // Float32 both; a sum in another order may round the last bit otherwise.
                if (!value.allclose(expected[name].to(value.dtype), rtol: 1e-5, atol: 1e-6))
                    throw new SafetensorsException(path, null, $"merged into the model gives another {mine.Component}.{name} than the tuned model has. Pull again; if it stays, the model in the folder is not the one that was trained on: name that with --model.");
            }
        }
    }

    private static IEnumerable<(string Component, nn.Module Network)> Networks(StableDiffusionModel model) =>
        model.TextEncoders.Select((e, i) => (i == 0 ? "text_encoder" : $"text_encoder_{i + 1}", (nn.Module)e)).Append(("unet", model.Unet)).Append(("vae", model.Autoencoder));

    private static ToolAnswer Embedding(PullRequest request)
    {
        var found = Directory.EnumerateFiles(request.Artifacts, "*.safetensors", SearchOption.AllDirectories).Order(StringComparer.Ordinal)
            .Where(file => !Path.GetRelativePath(request.Artifacts, file).StartsWith(ModelFolder + Path.DirectorySeparatorChar, StringComparison.Ordinal))
            .Select(file => (File: file, ModelFile.Inspect(file).Kind)).Where(f => f.Kind is "textual inversion" or "prompt embeddings").ToList();
        if (found.Count == 0)
            throw Absent(request, "learnt word and no embeddings of prompts", " Pull what was trained: --as lora, diffusers or single-file.");
        var files = new List<string>();
        foreach (var (source, kind) in found)
        {
            // The file's name is the word in every interface.
            var target = found.Count == 1 && IsFile(request.Output) ? request.Output
                : IsFile(request.Output) ? throw new ArgumentException($"There are {found.Count} embeddings: '{request.Output}' must be a folder.")
                : Path.Combine(request.Output, Path.GetFileName(source));
            if (kind == "textual inversion")
            {
                ModelConversion.Convert(source, target, new(Form: "webui"));
            }
            else
            {
                using var prompt = PromptEmbeddings.Read(source);
                // Which tokens were trained stands in the header.
                Dictionary<string, string> about;
                using (var file = SafetensorsFile.Open(source))
                    about = file.Metadata.Where(m => m.Key != "format").ToDictionary();
                prompt.Write(target, about);
                using var again = PromptEmbeddings.Read(target);
                if (!prompt.States.Equals(again.States) || (prompt.Pooled is { } pooled && !pooled.Equals(again.Pooled!)))
                    throw new SafetensorsException(target, null, "does not hold what was written. Check the disk and pull again.");
            }

            files.Add(target);
        }

        return new ToolAnswer { Message = $"{string.Join(" and ", found.Select(f => f.Kind).Distinct())}; read back equal.", Files = files };
    }

    private static string Part(PullRequest request, string name, string what)
    {
        var folder = Path.Combine(request.Artifacts, name);
        return Directory.Exists(folder) ? folder : throw Absent(request, what);
    }

    private static ArgumentException Absent(PullRequest request, string what, string advice = "") =>
        new($"'{request.Artifacts}' holds no {what}: it holds {string.Join(", ", Directory.EnumerateFileSystemEntries(request.Artifacts).Select(Path.GetFileName).Order(StringComparer.Ordinal))}.{advice}");

    private static bool IsFile(string path) => Path.GetExtension(path).Equals(".safetensors", StringComparison.OrdinalIgnoreCase);
}
