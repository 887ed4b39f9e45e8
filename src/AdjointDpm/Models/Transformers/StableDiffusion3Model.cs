using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Transformers;

/// <summary>Stable Diffusion 3 or 3.5 without its third text encoder: from prompts to pictures, differentiable throughout. Owns its networks.</summary>
/// <remarks>The model was trained with its texts left out at random, T5's among them; where T5 is not there, its states are zeros, as diffusers has it (<c>text_encoder_3=None</c>): long texts and lettering suffer.</remarks>
public sealed class StableDiffusion3Model : IDisposable
{
    /// <summary>Puts a model together.</summary>
    /// <param name="tokenizers">OpenAI's, then OpenCLIP's.</param>
    /// <param name="textEncoders">CLIP L/14, then bigG/14, both with their projections.</param>
    /// <param name="transformer">The diffusion network.</param>
    /// <param name="autoencoder">The autoencoder.</param>
    /// <param name="scheduler">The schedule the network was trained on.</param>
    /// <exception cref="ModelConfigException">The parts do not fit each other.</exception>
    public StableDiffusion3Model(IReadOnlyList<ClipTokenizer> tokenizers, IReadOnlyList<ClipTextModel> textEncoders, SD3Transformer2DModel transformer, AutoencoderKL autoencoder, SchedulerConfig scheduler)
    {
        ArgumentNullException.ThrowIfNull(tokenizers);
        ArgumentNullException.ThrowIfNull(textEncoders);
        ArgumentNullException.ThrowIfNull(transformer);
        ArgumentNullException.ThrowIfNull(autoencoder);
        (Tokenizers, TextEncoders, Transformer, Autoencoder, Scheduler) = (tokenizers, textEncoders, transformer, autoencoder, scheduler);
        if (tokenizers.Count != 2 || textEncoders.Count != 2)
            throw new ModelConfigException($"Stable Diffusion 3 has two text encoders of CLIP with a tokenizer each, not {textEncoders.Count} with {tokenizers.Count}.");
        var (width, pooled) = (textEncoders.Sum(e => e.Config.HiddenSize), textEncoders.Sum(e => e.Config.ProjectionDim));
        if (textEncoders.Any(e => !e.Config.Projects) || width > transformer.Config.JointAttentionDim || pooled != transformer.Config.PooledProjectionDim)
            throw new ModelConfigException($"The texts' states are {width} wide and their pooled ones {pooled}, but the network's joint_attention_dim is {transformer.Config.JointAttentionDim} and its pooled_projection_dim {transformer.Config.PooledProjectionDim}. The parts belong to different models.");
        if (transformer.Config.InChannels != autoencoder.Config.LatentChannels)
            throw new ModelConfigException($"The network's in_channels is {transformer.Config.InChannels}, but latents have {autoencoder.Config.LatentChannels}. The parts belong to different models.");
    }

    /// <summary>One for each text encoder.</summary>
    public IReadOnlyList<ClipTokenizer> Tokenizers { get; }

    /// <summary>CLIP's two.</summary>
    public IReadOnlyList<ClipTextModel> TextEncoders { get; }

    /// <summary>The diffusion network.</summary>
    public SD3Transformer2DModel Transformer { get; }

    /// <summary>The autoencoder.</summary>
    public AutoencoderKL Autoencoder { get; }

    /// <summary>Schedule, steps and sampler of the folder.</summary>
    public SchedulerConfig Scheduler { get; }

    /// <summary>Encodes prompts: the last layers but one of both encoders side by side, widened by zeros, and as many zeros in the place of T5's. Differentiable in the text encoders where grad mode is on.</summary>
    /// <param name="prompts">One for each sample; the empty text where there is none.</param>
    /// <returns>States [B, 2 N, joint_attention_dim] for texts of N tokens, and pooled ones. Owned by the caller.</returns>
    public PromptEmbeddings Encode(IReadOnlyList<string> prompts)
    {
        using var scope = NewDisposeScope();
        var all = TextEncoders.Zip(Tokenizers, (encoder, tokenizer) => encoder.Encode(tokenizer.EncodePadded(prompts).to(encoder.TokenEmbeddings.device))).ToList();
        var states = cat([.. all.Select(a => a.HiddenStates[^2])], -1);
        var (count, length, width) = (states.shape[0], states.shape[1], Transformer.Config.JointAttentionDim);
        states = cat([states, zeros(count, length, width - states.shape[2], dtype: states.dtype, device: states.device)], -1);
        states = cat([states, zeros(count, length, width, dtype: states.dtype, device: states.device)], 1);
        return new(states.DetachFromDisposeScope(), cat([.. all.Select(a => a.Pooled)], -1).DetachFromDisposeScope());
    }

    /// <summary>Standard normal noise in latent space, the same on every machine.</summary>
    /// <param name="count">Number of samples.</param>
    /// <param name="height">Height of the images in pixels, a multiple of the autoencoder's reduction times the patch.</param>
    /// <param name="width">Width of the images in pixels, likewise.</param>
    /// <param name="key">Names the draw.</param>
    /// <param name="dtype">Float32 or float64. Default: float32.</param>
    /// <returns>[count, Z, height / r, width / r], on the network's device, in the current dispose scope.</returns>
    public Tensor Noise(int count, int height, int width, NoiseKey key, ScalarType dtype = ScalarType.Float32)
    {
        var (r, side) = (Autoencoder.Config.Reduction, Autoencoder.Config.Reduction * Transformer.Config.PatchSize);
        if (height <= 0 || width <= 0 || height % side != 0 || width % side != 0 || Math.Max(height, width) / side > Transformer.Config.PosEmbedMaxSize)
            throw new ArgumentException($"An image of {height} by {width} pixels is no whole number of patches of {side} pixels, or more than {side * Transformer.Config.PosEmbedMaxSize} a side. Choose multiples of {side} up to that.");
        return CounterNoise.Normal(key, [count, Transformer.Config.InChannels, height / r, width / r], dtype, Transformer.parameters().First().device);
    }

    /// <summary>The network as a noise field, its own parameters held constant: declare those to train, or the prompt's tensors, by <see cref="NoiseField.With(string, Tensor)"/>.</summary>
    /// <inheritdoc cref="TransformerFields.Field" path="/param"/>
    public NoiseField Field(PromptEmbeddings prompt, PromptEmbeddings? negative = null, double guidance = 7) =>
        Transformer.Field(prompt, negative, guidance).Freeze(Transformer) with { Prediction = Scheduler.IsFlow ? Prediction.Flow : Scheduler.Prediction };

    /// <summary>What to hand to <see cref="Gradients.Sampling"/>, with the steps and the sampler of the folder's scheduler.</summary>
    /// <param name="field">From <see cref="Field"/>, with inputs declared.</param>
    /// <param name="noise">Standard normal noise, from <see cref="Noise"/>.</param>
    /// <param name="steps">Number of steps.</param>
    public SampleRequest Request(NoiseField field, Tensor noise, int steps)
    {
        ArgumentNullException.ThrowIfNull(noise);
        var patch = Transformer.Config.PatchSize;
        // Schedules that shift by the picture's size count its patches.
        return new() { Field = field, Noise = noise, Grid = Scheduler.Grid(steps, checked((int)(noise.shape[2] / patch * (noise.shape[3] / patch)))), Sampler = Scheduler.Sampler() };
    }

    /// <summary>Decodes sampled latents to images, near [-1, 1] but not clamped, in float32 or wider. Differentiable: call it in the loss.</summary>
    /// <param name="latents">x_0 as sampled, [B, Z, h, w].</param>
    public Tensor Decode(Tensor latents)
    {
        using var scope = NewDisposeScope();
        return Autoencoder.DecodeSample(latents).Wide().MoveToOuterDisposeScope();
    }

    /// <summary>Frees the networks.</summary>
    public void Dispose()
    {
        foreach (var encoder in TextEncoders)
            encoder.Dispose();
        Transformer.Dispose();
        Autoencoder.Dispose();
    }
}
