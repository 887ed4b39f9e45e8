using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Prompts;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Vae;
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
        using var frozen = no_grad();
        using var all = NewDisposeScope();
        using var given = request.PromptEmbeds is { } embeds ? PromptEmbeddings.Read(embeds) : null;
        List<Prompt> prompts = [.. request.Prompts.Select(text => new Prompt(text)), .. request.PromptsFile is { } list ? PromptFile.Read(list) : []];
        var texts = prompts.Count;
        prompts.AddRange(Enumerable.Range(0, (int)(given?.States.shape[0] ?? 0)).Select(n => new Prompt($"{Path.GetFileName(request.PromptEmbeds)} {n + 1}")));
        if (prompts.Count == 0)
            throw new ArgumentException("There is no prompt. Give one with --prompt.");
        if (request.Device.StartsWith("cuda", StringComparison.Ordinal) && !cuda.is_available())
            throw new NotSupportedException($"Device '{request.Device}' was asked for, but libtorch finds no CUDA device.");
        // Adapters are merged on the host, in float32 whatever the weights are.
        using var model = StableDiffusionSource.At(request.Model, request.Prediction).Load(dtype: DtypeNames.Read(request.Dtype) ?? ScalarType.Float32);
        foreach (var lora in request.Loras)
            LoraFile.Merge(model, lora);
        foreach (var file in request.Words)
        {
            var word = TextualInversion.Read(file);
            model.AddWord(word.Token, word.Embeddings);
        }

        if (request.Device.StartsWith("cuda", StringComparison.Ordinal))
        {
            foreach (var network in model.Networks)
                network.to(device(request.Device));
        }

        model.Unet.FusedAttention = request.Fused;
        model.Autoencoder.Tiles = request.Tiles is { } side ? new DecodeTiles(side) : null;
        given?.ThrowIfUnfit(request.PromptEmbeds!, model);
        var config = StableDiffusionConfig.Of(model);
        var (drawn, total) = (0, prompts.Sum(prompt => prompt.Steps ?? request.Steps));
        var files = prompts.Select((prompt, n) =>
        {
            var filled = Filled(prompt);
            telling.Report(new("drawing, steps", drawn, total));
            var before = drawn;
            drawn += filled.Steps!.Value;
            using var states = n < texts ? model.Encode([prompt.Text]) : given!.Row(n - texts, model.Unet);
            return Draw(model, request, filled, states, n, prompts.Count, shard: prompt.Seed is null ? n : 0, new Steps(step => telling.Report(new("drawing, steps", before + step, total))));
        }).ToList();
        var strange = prompts.Select(p => p.Sampler).OfType<string>().Distinct().Where(name => SamplerNames.Find(name) is null).Select(name => $"There is no sampler '{name}' here, which a prompt's line names: {request.Sampler ?? "the model's own"} was used.");
        return new ToolAnswer { Files = files, Message = $"{prompts.Count} {(prompts.Count == 1 ? "picture" : "pictures")}.", Warnings = [.. strange, .. prompts.Take(texts).SelectMany(p => new[] { p.Text, p.Negative }).Append(request.Negative).OfType<string>().Distinct().SelectMany(text => CutOff(model, text))] };

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

    // Interfaces go on in further pieces of 77; the networks themselves, and diffusers, stop there.
    private static IEnumerable<string> CutOff(StableDiffusionModel model, string text)
    {
        var tokenizer = model.Tokenizers[0];
        var count = tokenizer.Encode(text).Count;
        if (count > tokenizer.Length)
            yield return $"A prompt has {count} tokens, of which the text encoder reads the first {tokenizer.Length - 1} and its end: '{(text.Length > 40 ? text[..40] + "…" : text)}'. Shorten it.";
    }

    private static string Draw(StableDiffusionModel model, DrawRequest request, Prompt prompt, PromptEmbeddings states, int number, int count, int shard, IProgress<SolveProgress> progress)
    {
        using var scope = NewDisposeScope();
        var (steps, guidance, seed, height, width) = (prompt.Steps!.Value, prompt.Guidance!.Value, prompt.Seed!.Value, prompt.Height!.Value, prompt.Width!.Value);
        using var negative = guidance == 1 ? null : prompt.Negative is { } text ? model.Encode([text]) : model.EncodeNothing(1);
        // A prompt with a seed of its own gives the same picture wherever it stands in its file.
        var key = new NoiseKey((ulong)seed, Shard: (ushort)shard);
        var noise = model.Noise(1, height, width, key);
        var prepared = model.Request(model.Field(states, negative, guidance, new PictureSize(height, width)), noise, steps) with { Key = key, Progress = progress };
        if ((SamplerNames.Find(prompt.Sampler) ?? request.Sampler) is { } name)
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
}
