using AdjointDpm.Samplers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Vae;

/// <summary>diffusers' <c>AutoencoderKL</c>: the autoencoder between images and the latents in which Stable Diffusion 1, 2 and XL sample.</summary>
/// <remarks>Parameter names are diffusers' own. Images are [B, C, H, W] in [-1, 1]; latents [B, Z, H/r, W/r] with r the configuration's <see cref="AutoencoderKLConfig.Reduction"/>. All methods are differentiable where grad mode is on.</remarks>
public sealed class AutoencoderKL : nn.Module<Tensor, Tensor>
{
    private readonly Encoder encoder;
    private readonly Decoder decoder;
    private readonly Conv2d? quant_conv;
    private readonly Conv2d? post_quant_conv;
    private readonly Scalar _scaling;
    private readonly Scalar _inverseScaling;
    private readonly Scalar _shift;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or names a block that is not supported.</exception>
    public AutoencoderKL(AutoencoderKLConfig config)
        : base(nameof(AutoencoderKL))
    {
        Config = config;
        Check(config.DownBlockTypes, "DownEncoderBlock2D", "down_block_types");
        Check(config.UpBlockTypes, "UpDecoderBlock2D", "up_block_types");
        (_scaling, _inverseScaling, _shift) = (config.ScalingFactor, 1 / config.ScalingFactor, config.ShiftFactor ?? 0);
        var z = config.LatentChannels;
        foreach (var (field, values) in new[] { ("latents_mean", config.LatentsMean), ("latents_std", config.LatentsStd) })
        {
            if (values is not null && values.Count != z)
                throw new ModelConfigException($"{field} has {values.Count} numbers for {z} latent_channels. Give one for each.");
        }

        encoder = new Encoder(config);
        decoder = new Decoder(config);
        quant_conv = config.UseQuantConv ? Layers.Conv2d(2 * z, 2 * z, 1) : null;
        post_quant_conv = config.UsePostQuantConv ? Layers.Conv2d(z, z, 1) : null;
        RegisterComponents();

        void Check(IReadOnlyList<string> types, string supported, string field)
        {
            if (types.Count != config.BlockOutChannels.Count)
                throw new ModelConfigException($"block_out_channels has {config.BlockOutChannels.Count} entries, {field} {types.Count}: give one of each for every stage.");
            if (types.FirstOrDefault(t => t != supported) is { } other)
                throw new ModelConfigException($"{field} names '{other}'. Supported here: {supported}.");
        }
    }

    /// <summary>What the network was built from.</summary>
    public AutoencoderKLConfig Config { get; }

    /// <summary>Decodes the samples of a batch one after the other: the memory of one, with <see cref="Checkpointing"/> for its gradient, too. Default: false.</summary>
    public bool Slicing { get; set; }

    /// <summary>How <see cref="Decode"/> splits large latents. Default: null, not at all.</summary>
    public DecodeTiles? Tiles { get; set; }

    /// <summary>Keeps of every block only what goes into it, and computes the block again when the gradient passes it: memory for one evaluation more. The same gradient, bit for bit. Second derivatives are refused. Default: false.</summary>
    /// <remarks>Differentiate by <see cref="Gradients.Vjp"/>, which throws what goes wrong on the way back. Autograd's own <c>backward()</c> cannot: gradients are NaN then, and the next evaluation on the thread throws the reason.</remarks>
    public bool Checkpointing { get; set; }

    /// <summary>The same as <see cref="Decode"/>.</summary>
    public override Tensor forward(Tensor latent) => Decode(latent);

    /// <summary>Encodes images.</summary>
    /// <param name="image">[B, C, H, W] in [-1, 1], H and W multiples of the reduction.</param>
    /// <returns>Mean and logarithm of the variance of the latent, unscaled; in the current dispose scope.</returns>
    public LatentDistribution Encode(Tensor image)
    {
        using var scope = NewDisposeScope();
        using var recomputed = Recomputed.Use(Checkpointing);
        var moments = encoder.call(image);
        if (quant_conv is not null)
            moments = quant_conv.call(moments);
        var parts = moments.chunk(2, 1);
        return new(parts[0].MoveToOuterDisposeScope(), parts[1].clamp(LatentDistribution.LeastLog, LatentDistribution.MostLog).MoveToOuterDisposeScope());
    }

    /// <summary>Decodes latents as the encoder gives them, unscaled.</summary>
    /// <param name="latent">[B, Z, h, w].</param>
    /// <returns>Images [B, C, r·h, r·w], near [-1, 1] but not clamped.</returns>
    public Tensor Decode(Tensor latent)
    {
        if (!Slicing || latent.shape[0] == 1)
            return DecodeOnce(latent, Run);
        using var scope = NewDisposeScope();
        return cat([.. latent.split(1, 0).Select(slice => DecodeOnce(slice, RunAlone))], 0).MoveToOuterDisposeScope();
    }

    /// <summary>Decodes what the diffusion network samples: <c>Decode(latents / scaling_factor + shift_factor)</c>, or <c>Decode(latents · latents_std / scaling_factor + latents_mean)</c> where the configuration has these.</summary>
    /// <param name="latents">[B, Z, h, w], of unit variance; of any floating dtype, which the network's replaces.</param>
    public Tensor DecodeSample(Tensor latents)
    {
        using var scope = NewDisposeScope();
        if (Statistics(latents.device) is var (mean, deviation))
            return Decode(latents.to(this.Dtype()).mul(deviation).mul(_inverseScaling).Plus(mean)).MoveToOuterDisposeScope();
        return Decode(latents.to(this.Dtype()).mul(_inverseScaling).Plus(_shift)).MoveToOuterDisposeScope();
    }

    /// <summary>Encodes images to what the diffusion network samples, the inverse of <see cref="DecodeSample"/>: <c>(mean − shift_factor) · scaling_factor</c>, or <c>(mean − latents_mean) · scaling_factor / latents_std</c>.</summary>
    /// <param name="image">[B, C, H, W] in [-1, 1].</param>
    public Tensor EncodeMean(Tensor image)
    {
        using var scope = NewDisposeScope();
        var encoded = Encode(image.to(this.Dtype())).Mean;
        if (Statistics(image.device) is var (mean, deviation))
            return encoded.sub(mean).mul(_scaling).div(deviation).MoveToOuterDisposeScope();
        return encoded.sub(_shift).mul(_scaling).MoveToOuterDisposeScope();
    }

    // As pipelines of XL do: both or neither.
    private (Tensor Mean, Tensor Deviation)? Statistics(Device device)
    {
        return Config is { LatentsMean: { } mean, LatentsStd: { } deviation } ? (Row(mean), Row(deviation)) : null;

        Tensor Row(IReadOnlyList<double> values) => tensor([.. values], dtype: this.Dtype(), device: device).reshape(1, -1, 1, 1);
    }

    private Tensor DecodeOnce(Tensor latent, Func<Tensor, Tensor> whole) => Tiles is { } tiles && tiles.Split(latent, Config) ? tiles.Decode(latent, Config, RunAlone) : whole(latent);

    /// <summary>One of several parts: with <see cref="Checkpointing"/> nothing of it is kept until the gradient comes back to it.</summary>
    private Tensor RunAlone(Tensor latent)
    {
        using var recomputed = Recomputed.Use(Checkpointing);
        return Recomputed.IsOn ? Recomputed.Of(this, latent, null, 0, adds: false, (x, _, _) => Run(x)) : Run(latent);
    }

    private Tensor Run(Tensor latent)
    {
        using var scope = NewDisposeScope();
        using var recomputed = Recomputed.Use(Checkpointing);
        return decoder.call(post_quant_conv is null ? latent : post_quant_conv.call(latent)).MoveToOuterDisposeScope();
    }
}

/// <summary>The normal distribution of a latent, as the encoder gives it.</summary>
/// <param name="Mean">[B, Z, h, w].</param>
/// <param name="LogVariance">Logarithm of the variance, clamped to [-30, 20].</param>
public sealed record LatentDistribution(Tensor Mean, Tensor LogVariance)
{
    internal static readonly Scalar LeastLog = -30.0;
    internal static readonly Scalar MostLog = 20.0;

    /// <summary>A draw: mean + standard deviation · noise.</summary>
    /// <param name="noise">Standard normal, of the mean's shape, as from <see cref="CounterNoise"/>.</param>
    public Tensor Sample(Tensor noise)
    {
        using var scope = NewDisposeScope();
        return LogVariance.mul(Rooted.Half).exp().mul(noise).Plus(Mean).MoveToOuterDisposeScope();
    }
}
