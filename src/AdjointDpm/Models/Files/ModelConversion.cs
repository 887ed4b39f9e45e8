using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Files;

/// <summary>How a file should be written.</summary>
/// <param name="Model">The model that a file is for, a diffusers folder or a single file: the layers' names for a LoRA, tokenizers and configurations for a checkpoint that is not of a released model's size. Default: none.</param>
/// <param name="Form">For a LoRA, <c>kohya</c> or <c>diffusers</c>; for a learnt word, <c>webui</c> or <c>diffusers</c>. Default: for a LoRA the other dialect than it has, for a word <c>webui</c>.</param>
/// <param name="Dtype">Element type of a model's weights. Default: as loaded, float32.</param>
/// <param name="Prediction">What a model's network predicts, <c>epsilon</c> or <c>v_prediction</c>. Default: what the input says.</param>
public sealed record ConversionOptions(string? Model = null, string? Form = null, ScalarType? Dtype = null, string? Prediction = null);

/// <summary>Turns files of one form into another and reads back what it wrote before it says so.</summary>
public static class ModelConversion
{
    /// <summary>Converts a diffusers folder and a single-file checkpoint into one another, a LoRA into the other dialect, and a learnt word likewise.</summary>
    /// <param name="input">A folder or a safetensors file.</param>
    /// <param name="output">A path ending in <c>.safetensors</c> for a file; any other for a folder.</param>
    /// <param name="options">How. Default: as <see cref="ConversionOptions"/> says.</param>
    /// <returns>What was done, and what was compared, in a sentence.</returns>
    /// <exception cref="ArgumentException">An option is missing, or does not go with the input.</exception>
    /// <exception cref="SafetensorsException">The input cannot be read, or the written file does not say the same.</exception>
    /// <exception cref="ModelConfigException">A folder cannot be read.</exception>
    public static string Convert(string input, string output, ConversionOptions? options = null)
    {
        options ??= new();
        if (Path.GetFullPath(input) == Path.GetFullPath(output))
            throw new ArgumentException($"'{input}' would be written over itself. Name another output.", nameof(output));
        if (Directory.Exists(input))
            return Model(StableDiffusionSource.At(input, options.Prediction).Load(), output, options);
        bool isLora, isKohya, isWord;
        using (var file = SafetensorsFile.Open(input))
            (isLora, isKohya, isWord) = (ModelFile.IsLora(file.Names), ModelFile.IsKohya(file.Names), ModelFile.IsWord(file));
        if (isLora)
            return Lora(input, isKohya, output, options);
        if (isWord)
            return Word(input, output, options);
        if (options.Model is not { } model)
            return Model(StableDiffusionSource.At(input, options.Prediction).Load(), output, options);
        var like = StableDiffusionSource.At(model);
        return Model(SingleFileCheckpoint.Load(input, like.LoadTokenizers(), like.ReadConfig(), prediction: options.Prediction), output, options);
    }

    private static string Model(StableDiffusionModel loaded, string output, ConversionOptions options)
    {
        using var model = loaded;
        var networks = model.Networks;
        if (options.Dtype is { } dtype)
        {
            foreach (var network in networks)
                network.to(dtype);
        }

        var toFile = IsFile(output);
        if (toFile)
            SingleFileCheckpoint.Save(output, model, new Dictionary<string, string> { ["modelspec.title"] = Path.GetFileNameWithoutExtension(output) });
        else
            StableDiffusionFolder.Save(output, model);
        using var again = toFile ? SingleFileCheckpoint.Load(output, model.Tokenizers, StableDiffusionConfig.Of(model)) : StableDiffusionFolder.Open(output).Load();
        var compared = 0;
        foreach (var (written, read) in networks.Zip(again.Networks))
        {
            var values = read.state_dict();
            foreach (var (name, value) in written.state_dict())
            {
                using var scope = NewDisposeScope();
                if (!value.to(values[name].dtype).Equals(values[name]))
                    throw new SafetensorsException(output, name, "does not hold what was written. Check the disk and convert again.");
                compared++;
            }
        }

        return $"{StableDiffusionConfig.Of(model).Kind.Called()} as a {(toFile ? "single file" : "diffusers folder")}; read back, all {compared} tensors equal.";
    }

    private static string Lora(string input, bool isKohya, string output, ConversionOptions options)
    {
        if (!IsFile(output))
            throw new ArgumentException($"A LoRA is one file: '{output}' must end in .safetensors.", nameof(output));
        using var model = Needed(options, input, "the names of its layers").Load();
        using var lora = LoraWeights.Read(input, model);
        var dialect = options.Form switch
        {
            "kohya" => LoraDialect.Kohya,
            "diffusers" => LoraDialect.Diffusers,
            null => isKohya ? LoraDialect.Diffusers : LoraDialect.Kohya,
            var other => throw new ArgumentException($"A LoRA is written as kohya or diffusers, not as '{other}'.", nameof(options)),
        };
        var about = lora.Metadata.Where(m => m.Key.StartsWith("ss_", StringComparison.Ordinal) && m.Key is not ("ss_network_dim" or "ss_network_alpha" or "ss_network_module")).ToDictionary();
        lora.Write(output, dialect, model, about);
        lora.Compare(output, model);
        return $"A LoRA of {lora.Layers.Count} layers as {(dialect == LoraDialect.Kohya ? "kohya" : "diffusers")}; read back, what it adds to each weight is the same.";
    }

    private static string Word(string input, string output, ConversionOptions options)
    {
        if (!IsFile(output))
            throw new ArgumentException($"A learnt word is one file: '{output}' must end in .safetensors.", nameof(output));
        using var word = TextualInversion.Read(input);
        if (options.Form is "diffusers")
            word.WriteDiffusers(output);
        else if (options.Form is null or "webui")
            word.WriteWebUi(output);
        else
            throw new ArgumentException($"A learnt word is written as webui or diffusers, not as '{options.Form}'.", nameof(options));
        using var again = TextualInversion.Read(output);
        if (!word.Embeddings.Zip(again.Embeddings).All(p => p.First.Equals(p.Second)))
            throw new SafetensorsException(output, null, "does not hold what was written. Check the disk and convert again.");
        return $"The word '{again.Token}', {word.Embeddings[0].shape[0]} vectors, as {options.Form ?? "webui"}; read back equal.";
    }

    private static bool IsFile(string path) => Path.GetExtension(path).Equals(".safetensors", StringComparison.OrdinalIgnoreCase);

    private static StableDiffusionSource Needed(ConversionOptions options, string input, string what) => StableDiffusionSource.At(options.Model
        ?? throw new ArgumentException($"'{input}' needs its model, a diffusers folder or a single file, for {what}. Name one with --model.", nameof(options)));
}
