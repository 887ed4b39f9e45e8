using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Prompts;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>Draws pictures from texts, one after the other, each with its parameters in the file.</summary>
internal static class Drawing
{
    public static ToolAnswer Run(DrawRequest request, IProgress<ToolProgress> telling)
    {
        telling.Report(new("loading the model", 0, 0));
        NativeTorch.EnsureLoaded();
        List<Prompt> prompts = [.. request.Prompts.Select(text => new Prompt(text)), .. request.PromptsFile is { } list ? PromptFile.Read(list) : []];
        if (prompts.Count == 0)
            throw new ArgumentException("There is no prompt. Give one with --prompt.");
        if (request.Device.StartsWith("cuda", StringComparison.Ordinal) && !cuda.is_available())
            throw new NotSupportedException($"Device '{request.Device}' was asked for, but libtorch finds no CUDA device.");
        using var frozen = no_grad();
        using var all = NewDisposeScope();
        // Adapters are merged on the host, where the weights are as wide as they were read.
        using var model = StableDiffusionFolder.Open(request.Model).Load();
        foreach (var lora in request.Loras)
            Merge(model, lora);
        foreach (var file in request.Words)
        {
            var word = TextualInversion.Read(file);
            model.AddWord(word.Token, word.Embeddings);
        }

        if (request.Device.StartsWith("cuda", StringComparison.Ordinal))
        {
            foreach (var network in (nn.Module[])[.. model.TextEncoders, model.Unet, model.Autoencoder])
                network.to(device(request.Device));
        }

        var config = StableDiffusionConfig.Of(model);
        var filled = prompts.Select(Filled).ToList();
        var (drawn, total) = (0, filled.Sum(prompt => prompt.Steps!.Value));
        return new ToolAnswer { Files = [.. filled.Select((prompt, n) =>
        {
            telling.Report(new("drawing, steps", drawn, total));
            var before = drawn;
            drawn += prompt.Steps!.Value;
            return Draw(model, request, prompt, n, prompts.Count, shard: prompts[n].Seed is null ? n : 0, new Steps(step => telling.Report(new("drawing, steps", before + step, total))));
        })], Message = $"{prompts.Count} {(prompts.Count == 1 ? "picture" : "pictures")}." };

        Prompt Filled(Prompt prompt)
        {
            var (height, width) = config.SizeOr(prompt.Height ?? request.Height, prompt.Width ?? request.Width, "Give --height and --width.");
            return prompt with
            {
                Negative = prompt.Negative ?? request.Negative,
                Seed = prompt.Seed ?? request.Seed,
                Steps = prompt.Steps ?? request.Steps,
                Guidance = prompt.Guidance ?? request.Guidance,
                Height = height,
                Width = width,
            };
        }
    }

    private static string Draw(StableDiffusionModel model, DrawRequest request, Prompt prompt, int number, int count, int shard, IProgress<SolveProgress> progress)
    {
        using var scope = NewDisposeScope();
        var (steps, guidance, seed, height, width) = (prompt.Steps!.Value, prompt.Guidance!.Value, prompt.Seed!.Value, prompt.Height!.Value, prompt.Width!.Value);
        using var states = model.Encode([prompt.Text]);
        using var negative = guidance == 1 ? null : prompt.Negative is { } text ? model.Encode([text]) : model.EncodeNothing(1);
        // A prompt with a seed of its own gives the same picture wherever it stands in its file.
        var key = new NoiseKey((ulong)seed, Shard: (ushort)shard);
        var noise = model.Noise(1, height, width, key);
        var prepared = model.Request(model.Field(states, negative, guidance, new PictureSize(height, width)), noise, steps) with { Key = key, Progress = progress };
        if (request.Sampler is { } name)
            prepared = prepared with { Sampler = Sampler.Named(name) };
        using var drawn = Sampling.Sample(prepared);
        var path = count == 1 ? request.Output
            : Path.Combine(Path.GetDirectoryName(request.Output) ?? "", string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileNameWithoutExtension(request.Output)}-{number + 1}{Path.GetExtension(request.Output)}"));
        var host = noise.cpu().contiguous();
        var own = JsonSerializer.Serialize(new { sampler = prepared.Sampler.Name, noise = "counter", seed, picture = shard, noiseSha256 = Convert.ToHexStringLower(SHA256.HashData(host.bytes)), loras = request.Loras.Select(Path.GetFileName), words = request.Words.Select(Path.GetFileName) });
        Picture.Write(path, model.Decode(drawn.Sample)[0], [
            Picture.Parameters(prompt.Text, prompt.Negative, [
                new("Steps", steps.ToString(CultureInfo.InvariantCulture)),
                new("Sampler", prepared.Sampler.Name),
                new("CFG scale", guidance.ToString("R", CultureInfo.InvariantCulture)),
                new("Seed", seed.ToString(CultureInfo.InvariantCulture)),
                new("Size", $"{width}x{height}"),
                new("Model", Path.GetFileName(Path.TrimEndingDirectorySeparator(request.Model))),
            ]),
            new("adjointdpm", own),
        ]);
        return path;
    }

    /// <summary>Steps of one picture.</summary>
    private sealed class Steps(Action<int> done) : IProgress<SolveProgress>
    {
        public void Report(SolveProgress value) => done(value.Done);
    }

    private static void Merge(StableDiffusionModel model, string given)
    {
        var (file, strength) = (given, 1.0);
        var colon = given.LastIndexOf(':');
        if (!File.Exists(given) && colon > 0 && double.TryParse(given.AsSpan(colon + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var number))
            (file, strength) = (given[..colon], number);
        using var lora = LoraWeights.Read(file, model);
        lora.Merge(model, strength);
    }
}
