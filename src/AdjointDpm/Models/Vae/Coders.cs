using AdjointDpm.Models.Unet;
using TorchSharp.Modules;
using static TorchSharp.torch;
using GroupNorm = AdjointDpm.Models.Unet.GroupNorm;
using Upsample = AdjointDpm.Models.Unet.Upsample;

namespace AdjointDpm.Models.Vae;

/// <summary>The encoder: image [B, C, H, W] to the moments of its latent, [B, 2·Z, H/r, W/r]. Parameter names are diffusers' <c>Encoder</c>'s.</summary>
internal sealed class Encoder : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv_in;
    private readonly ModuleList<CoderStage> down_blocks;
    private readonly MiddleStage mid_block;
    private readonly GroupNorm conv_norm_out;
    private readonly Conv2d conv_out;
    private readonly Func<Tensor, Tensor> _activation;

    public Encoder(AutoencoderKLConfig config)
        : base(nameof(Encoder))
    {
        var channels = config.BlockOutChannels;
        _activation = Activation.Named(Activation.Fixed);
        conv_in = Layers.Conv2d(config.InChannels, channels[0], 3, padding: 1);
        down_blocks = nn.ModuleList([.. Enumerable.Range(0, channels.Count).Select(i => new CoderStage(
            config, channels[Math.Max(i - 1, 0)], channels[i], config.LayersPerBlock, down: i < channels.Count - 1, up: false))]);
        mid_block = CoderStage.Middle(config);
        conv_norm_out = new GroupNorm(config.NormNumGroups, channels[^1], CoderStage.Eps);
        conv_out = Layers.Conv2d(channels[^1], 2 * config.LatentChannels, 3, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor image)
    {
        using var scope = NewDisposeScope();
        var x = conv_in.call(image);
        foreach (var stage in down_blocks)
            x = stage.call(x);
        x = mid_block.Run(x, null, null);
        return conv_out.call(_activation(conv_norm_out.call(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>The decoder: latent [B, Z, h, w] to image [B, C, r·h, r·w]. Parameter names are diffusers' <c>Decoder</c>'s.</summary>
internal sealed class Decoder : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv_in;
    private readonly MiddleStage mid_block;
    private readonly ModuleList<CoderStage> up_blocks;
    private readonly GroupNorm conv_norm_out;
    private readonly Conv2d conv_out;
    private readonly Func<Tensor, Tensor> _activation;

    public Decoder(AutoencoderKLConfig config)
        : base(nameof(Decoder))
    {
        var channels = config.BlockOutChannels.Reverse().ToArray();
        _activation = Activation.Named(Activation.Fixed);
        conv_in = Layers.Conv2d(config.LatentChannels, channels[0], 3, padding: 1);
        mid_block = CoderStage.Middle(config);
        up_blocks = nn.ModuleList([.. Enumerable.Range(0, channels.Length).Select(i => new CoderStage(
            config, channels[Math.Max(i - 1, 0)], channels[i], config.LayersPerBlock + 1, down: false, up: i < channels.Length - 1))]);
        conv_norm_out = new GroupNorm(config.NormNumGroups, channels[^1], CoderStage.Eps);
        conv_out = Layers.Conv2d(channels[^1], config.OutChannels, 3, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor latent)
    {
        using var scope = NewDisposeScope();
        var x = mid_block.Run(conv_in.call(latent), null, null);
        foreach (var stage in up_blocks)
            x = stage.call(x);
        return conv_out.call(_activation(conv_norm_out.call(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>diffusers' <c>DownEncoderBlock2D</c> and <c>UpDecoderBlock2D</c>: residual blocks without time, then a change of resolution.</summary>
internal sealed class CoderStage : nn.Module<Tensor, Tensor>
{
    // AutoencoderKL does not take norm_eps from the configuration.
    public const double Eps = 1e-6;
    private readonly ModuleList<ResnetBlock> resnets;
    private readonly ModuleList<Downsample>? downsamplers;
    private readonly ModuleList<Upsample>? upsamplers;

    public CoderStage(AutoencoderKLConfig config, int input, int output, int layers, bool down, bool up)
        : base(nameof(CoderStage))
    {
        resnets = nn.ModuleList([.. Enumerable.Range(0, layers).Select(j => new ResnetBlock(j == 0 ? input : output, output, Options(config)))]);
        // Padding on the right and below only, as the original autoencoder has it.
        downsamplers = down ? nn.ModuleList(new Downsample(output, 0)) : null;
        upsamplers = up ? nn.ModuleList(new Upsample(output)) : null;
        RegisterComponents();
    }

    public static MiddleStage Middle(AutoencoderKLConfig config)
    {
        var channels = config.BlockOutChannels[^1];
        return new MiddleStage(
            new ResnetBlock(channels, channels, Options(config)),
            config.MidBlockAddAttention ? new SpatialAttention(channels, channels, config.NormNumGroups, Eps) : null,
            new ResnetBlock(channels, channels, Options(config)));
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var resnet in resnets)
            x = Stage.Resolve(resnet, x, null);
        if (downsamplers is not null)
            x = downsamplers[0].call(x);
        if (upsamplers is not null)
            x = upsamplers[0].call(x, [2 * x.shape[2], 2 * x.shape[3]]);
        return x.MoveToOuterDisposeScope();
    }

    private static ResnetOptions Options(AutoencoderKLConfig config) => new(null, config.NormNumGroups, Eps, config.ActFn, 0, ScaleShift: false);
}
