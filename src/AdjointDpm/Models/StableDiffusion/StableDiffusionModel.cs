using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>Stable Diffusion 1, 2 or XL, loaded: from text to latents to images, with the gradient of a loss on the image for whatever produced it.</summary>
/// <remarks>
/// Its parts are what the rest of the library takes: <see cref="Request"/> goes to <see cref="Gradients.Sampling"/>, the loss decodes by
/// <see cref="Decode"/>. Deterministic: equal prompts, noise and numbers of threads give equal bits. Owns its networks.
/// </remarks>
public sealed class StableDiffusionModel : IDisposable
{
    private readonly List<Tensor[]> _words = [];

    /// <summary>Puts the parts together; they are owned from here on.</summary>
    /// <param name="tokenizers">One for each text encoder.</param>
    /// <param name="textEncoders">One for Stable Diffusion 1 and 2, two for XL.</param>
    /// <param name="unet">The diffusion network, in latent space.</param>
    /// <param name="autoencoder">Between latents and images.</param>
    /// <param name="scheduler">The noise schedule the network was trained on, and how to sample by default.</param>
    /// <exception cref="ModelConfigException">The parts do not fit together.</exception>
    public StableDiffusionModel(IReadOnlyList<ClipTokenizer> tokenizers, IReadOnlyList<ClipTextModel> textEncoders, UNet2DConditionModel unet, AutoencoderKL autoencoder, SchedulerConfig scheduler)
    {
        (Tokenizers, TextEncoders, Unet, Autoencoder, Scheduler) = (tokenizers, textEncoders, unet, autoencoder, scheduler);
        IsXl = unet.Config.AdditionEmbedType == "text_time";
        Check(tokenizers, StableDiffusionConfig.Of(this));
    }

    /// <summary>Whether parts of such configurations make a model.</summary>
    /// <exception cref="ModelConfigException">They do not fit together.</exception>
    internal static void Check(IReadOnlyList<ClipTokenizer> tokenizers, StableDiffusionConfig config)
    {
        var (textEncoders, unet, isXl) = (config.TextEncoders, config.Unet, config.Kind == SingleFileKind.Xl);
        if (tokenizers.Count != textEncoders.Count || textEncoders.Count != (isXl ? 2 : 1))
            throw new ModelConfigException($"There are {tokenizers.Count} tokenizers and {textEncoders.Count} text encoders; this network needs {(isXl ? "two" : "one")} of each.");
        var width = textEncoders.Sum(e => e.HiddenSize);
        if (unet.CrossAttentionDim.Values.Any(d => d != width))
            throw new ModelConfigException($"The text's states are {width} wide, but the network's cross_attention_dim is {string.Join(", ", unet.CrossAttentionDim.Values)}. The parts belong to different models.");
        if (unet.HasClasses)
            throw new ModelConfigException("The network is told classes besides the text (num_class_embeds or class_embed_type), as upscalers and image variations are. Models that draw from text alone are supported; in the library use the network by itself.");
        if (unet.InChannels != config.Autoencoder.LatentChannels)
            throw new ModelConfigException($"The network's in_channels is {unet.InChannels}, but latents have {config.Autoencoder.LatentChannels}. Networks for inpainting or editing, which see more, are not supported.");
        foreach (var (encoder, tokenizer) in textEncoders.Zip(tokenizers))
        {
            if (tokenizer.VocabularySize > encoder.VocabSize || tokenizer.Length > encoder.MaxPositionEmbeddings)
                throw new ModelConfigException($"The tokenizer has {tokenizer.VocabularySize} tokens and texts of {tokenizer.Length}, but the text encoder knows {encoder.VocabSize} tokens and {encoder.MaxPositionEmbeddings} positions. The parts belong to different models.");
        }
    }

    /// <summary>One for each text encoder.</summary>
    public IReadOnlyList<ClipTokenizer> Tokenizers { get; }

    /// <summary>One, or XL's two.</summary>
    public IReadOnlyList<ClipTextModel> TextEncoders { get; }

    /// <summary>The diffusion network.</summary>
    public UNet2DConditionModel Unet { get; }

    /// <summary>The autoencoder. Set its tiling and slicing here.</summary>
    public AutoencoderKL Autoencoder { get; }

    /// <summary>All networks: text encoders, diffusion network, autoencoder.</summary>
    public IReadOnlyList<nn.Module> Networks => [.. TextEncoders, Unet, Autoencoder];

    /// <summary>Schedule, steps and sampler of the folder.</summary>
    public SchedulerConfig Scheduler { get; }

    /// <summary>Whether this is SDXL: two text encoders, and picture sizes as conditioning.</summary>
    public bool IsXl { get; }

    /// <summary>Whether no negative prompt means zeros and not the empty text. Default: false.</summary>
    public bool ZerosForEmptyPrompt { get; init; }

    /// <summary>Learns a word: from here on it stands for these embeddings in prompts.</summary>
    /// <param name="token">The word as it stands in prompts.</param>
    /// <param name="embeddings">For each text encoder its vectors [n, width]; n &gt; 1 is as many tokens. Kept, not copied: gradients reach them.</param>
    /// <exception cref="ArgumentException">The word is known already, or an embedding is of another model's width.</exception>
    public void AddWord(string token, params IReadOnlyList<Tensor> embeddings)
    {
        ArgumentNullException.ThrowIfNull(embeddings);
        if (embeddings.Count != TextEncoders.Count)
            throw new ArgumentException($"'{token}' has embeddings for {embeddings.Count} text encoders, this model has {TextEncoders.Count}.", nameof(embeddings));
        for (var i = 0; i < embeddings.Count; i++)
        {
            var width = TextEncoders[i].Config.HiddenSize;
            if (embeddings[i].dim() != 2 || embeddings[i].shape[1] != width || embeddings[i].shape[0] != embeddings[0].shape[0])
                throw new ArgumentException($"'{token}' has an embedding of shape [{string.Join(", ", embeddings[i].shape)}]; text encoder {i} takes [n, {width}]. It was learnt for another model.", nameof(embeddings));
        }

        foreach (var tokenizer in Tokenizers)
            tokenizer.Add(token, (int)embeddings[0].shape[0]);
        _words.Add([.. embeddings]);
    }

    /// <summary>Encodes prompts. Differentiable in the text encoders and in learnt words where grad mode is on.</summary>
    /// <param name="prompts">One for each sample.</param>
    /// <param name="skipLayers">Layers left out at the end of the encoders ("CLIP skip" counts one more). Default: 0.</param>
    /// <returns>Owned by the caller.</returns>
    public PromptEmbeddings Encode(IReadOnlyList<string> prompts, int skipLayers = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(skipLayers);
        using var scope = NewDisposeScope();
        var states = new List<Tensor>();
        Tensor? pooled = null;
        for (var i = 0; i < TextEncoders.Count; i++)
        {
            var encoder = TextEncoders[i];
            var ids = Tokenizers[i].EncodePadded(prompts).to(encoder.TokenEmbeddings.device);
            var all = encoder.Encode(ids, Look(i, ids));
            // XL was trained on the last layer but one, not normalised.
            var back = 1 + skipLayers + (IsXl ? 1 : 0);
            if (back > all.HiddenStates.Count - 1)
                throw new ArgumentOutOfRangeException(nameof(skipLayers), skipLayers, $"A text encoder of {all.HiddenStates.Count - 1} layers cannot leave out so many.");
            states.Add(IsXl ? all.HiddenStates[^back] : back == 1 ? all.LastHiddenState : encoder.Normalise(all.HiddenStates[^back]));
            pooled = all.Pooled;
        }

        return new((states.Count == 1 ? states[0] : cat(states, -1)).DetachFromDisposeScope(), IsXl ? pooled!.DetachFromDisposeScope() : null);
    }

    /// <summary>Embeddings where there is no negative prompt: of the empty text, or zeros if <see cref="ZerosForEmptyPrompt"/>.</summary>
    /// <param name="count">Number of samples.</param>
    /// <returns>Owned by the caller.</returns>
    public PromptEmbeddings EncodeNothing(int count)
    {
        var empty = Encode([.. Enumerable.Repeat("", count)]);
        if (!ZerosForEmptyPrompt)
            return empty;
        using (empty)
            return empty.Zeros();
    }

    /// <summary>Standard normal noise in latent space, the same on every machine.</summary>
    /// <param name="count">Number of samples.</param>
    /// <param name="height">Height of the images in pixels, a multiple of the autoencoder's reduction.</param>
    /// <param name="width">Width of the images in pixels, likewise.</param>
    /// <param name="key">Names the draw.</param>
    /// <param name="dtype">Float32 or float64. Default: float32.</param>
    /// <returns>[count, Z, height / r, width / r], on the network's device, in the current dispose scope.</returns>
    public Tensor Noise(int count, int height, int width, NoiseKey key, ScalarType dtype = ScalarType.Float32)
    {
        var r = Autoencoder.Config.Reduction;
        if (height <= 0 || width <= 0 || height % r != 0 || width % r != 0)
            throw new ArgumentException($"An image of {height} by {width} pixels is no whole number of latents of {r} pixels. Choose multiples of {r}.");
        return CounterNoise.Normal(key, [count, Unet.Config.InChannels, height / r, width / r], dtype, Unet.parameters().First().device);
    }

    /// <summary>The network as a noise field. Its own parameters are held constant: declare those to train, or the prompt's states, by <see cref="NoiseField.With(string, Tensor)"/>.</summary>
    /// <param name="prompt">The prompts.</param>
    /// <param name="negative">The negative prompts. Default: none, which leaves guidance out.</param>
    /// <param name="guidance">Weight of classifier-free guidance; 1 is none. Default: 7.5.</param>
    /// <param name="size">XL's picture sizes, which it needs; unused by others.</param>
    public NoiseField Field(PromptEmbeddings prompt, PromptEmbeddings? negative = null, double guidance = 7.5, PictureSize? size = null)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        if (negative is null)
            guidance = 1;
        if (IsXl && size is null)
            throw new ArgumentException("SDXL is conditioned on the picture's size. Pass it.", nameof(size));
        var field = Unet.Field(prompt.States, negative?.States, guidance, Added(prompt), negative is null ? null : Added(negative));
        return field.Freeze(Unet) with { Prediction = Scheduler.Prediction };

        AddedConditioning? Added(PromptEmbeddings e) => IsXl ? new(e.Pooled!, size!.Ids(e.Pooled!)) : null;
    }

    /// <summary>What to hand to <see cref="Gradients.Sampling"/>, with the steps and the sampler of the folder's scheduler.</summary>
    /// <param name="field">From <see cref="Field"/>, with inputs declared.</param>
    /// <param name="noise">Standard normal noise, from <see cref="Noise"/>. Multiplied by the scheduler's <see cref="SchedulerConfig.NoiseScale"/>, mostly 1.</param>
    /// <param name="steps">Number of steps.</param>
    public SampleRequest Request(NoiseField field, Tensor noise, int steps)
    {
        var grid = Scheduler.Grid(steps);
        var scale = Scheduler.NoiseScale(grid);
        return new() { Field = field, Noise = scale == 1 ? noise : noise.Times(scale), Grid = grid, Sampler = Scheduler.Sampler() };
    }

    /// <summary>Decodes sampled latents to images, near [-1, 1] but not clamped, in float32 or wider. Differentiable: call it in the loss.</summary>
    /// <param name="latents">x_0 as sampled, [B, Z, h, w].</param>
    public Tensor Decode(Tensor latents)
    {
        using var scope = NewDisposeScope();
        var image = Autoencoder.DecodeSample(latents);
        return image.Wide().MoveToOuterDisposeScope();
    }

    /// <summary>Frees the networks.</summary>
    public void Dispose()
    {
        foreach (var network in Networks)
            network.Dispose();
    }

    private Tensor? Look(int encoder, Tensor ids)
    {
        if (_words.Count == 0)
            return null;
        var table = cat([TextEncoders[encoder].TokenEmbeddings[..Tokenizers[encoder].VocabularySize], .. _words.Select(w => w[encoder].to(TextEncoders[encoder].TokenEmbeddings.dtype).to(ids.device))], 0);
        return table.index_select(0, ids.flatten()).reshape(ids.shape[0], ids.shape[1], -1);
    }
}

/// <summary>What SDXL is told about the picture, in pixels.</summary>
/// <param name="Height">Height wanted.</param>
/// <param name="Width">Width wanted.</param>
/// <param name="OriginalHeight">Height before resizing. Default: the one wanted.</param>
/// <param name="OriginalWidth">Width before resizing. Default: the one wanted.</param>
/// <param name="Top">Pixels cropped above. Default: 0.</param>
/// <param name="Left">Pixels cropped on the left. Default: 0.</param>
public sealed record PictureSize(int Height, int Width, int? OriginalHeight = null, int? OriginalWidth = null, int Top = 0, int Left = 0)
{
    internal Tensor Ids(Tensor pooled) =>
        tensor(new float[] { OriginalHeight ?? Height, OriginalWidth ?? Width, Top, Left, Height, Width }, device: pooled.device).expand(pooled.shape[0], 6).DetachFromDisposeScope();
}
