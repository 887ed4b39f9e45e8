using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>Draws pictures from texts, one after the other, each with its parameters in the file.</summary>
internal static class Drawing
{
    public static ToolAnswer Run(DrawRequest request)
    {
        NativeTorch.EnsureLoaded();
        if (request.Prompts.Count == 0)
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

        var r = model.Autoencoder.Config.Reduction;
        var trained = model.Unet.Config.SampleSize?.Values;
        var height = request.Height ?? r * (trained?[0] ?? throw Unknown());
        var width = request.Width ?? r * (trained?[^1] ?? throw Unknown());
        return new ToolAnswer { Files = [.. request.Prompts.Select((prompt, n) => Draw(model, request, prompt, n, height, width))], Message = $"{request.Prompts.Count} of {width} × {height} pixels." };

        ModelConfigException Unknown() => new($"'{request.Model}' does not say its sample_size. Give --height and --width.");
    }

    private static string Draw(StableDiffusionModel model, DrawRequest request, string prompt, int number, int height, int width)
    {
        using var scope = NewDisposeScope();
        using var states = model.Encode([prompt]);
        using var negative = request.Guidance == 1 ? null : request.Negative is { } text ? model.Encode([text]) : model.EncodeNothing(1);
        var key = new NoiseKey((ulong)request.Seed, Shard: (ushort)number);
        var noise = model.Noise(1, height, width, key);
        var prepared = model.Request(model.Field(states, negative, request.Guidance, new PictureSize(height, width)), noise, request.Steps) with { Key = key };
        if (request.Sampler is { } name)
            prepared = prepared with { Sampler = Sampler.Named(name) };
        using var drawn = Sampling.Sample(prepared);
        var path = request.Prompts.Count == 1 ? request.Output
            : Path.Combine(Path.GetDirectoryName(request.Output) ?? "", string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileNameWithoutExtension(request.Output)}-{number + 1}{Path.GetExtension(request.Output)}"));
        var host = noise.cpu().contiguous();
        var own = JsonSerializer.Serialize(new { sampler = prepared.Sampler.Name, noise = "counter", seed = request.Seed, picture = number, noiseSha256 = Convert.ToHexStringLower(SHA256.HashData(host.bytes)), loras = request.Loras.Select(Path.GetFileName), words = request.Words.Select(Path.GetFileName) });
        Picture.Write(path, model.Decode(drawn.Sample)[0], [
            Picture.Parameters(prompt, request.Negative, [
                new("Steps", request.Steps.ToString(CultureInfo.InvariantCulture)),
                new("Sampler", prepared.Sampler.Name),
                new("CFG scale", request.Guidance.ToString("R", CultureInfo.InvariantCulture)),
                new("Seed", request.Seed.ToString(CultureInfo.InvariantCulture)),
                new("Size", $"{width}x{height}"),
                new("Model", Path.GetFileName(Path.TrimEndingDirectorySeparator(request.Model))),
            ]),
            new("adjointdpm", own),
        ]);
        return path;
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
