using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>diffusers' <c>UNet2DModel</c>: a noise predictor without text, with class labels where it was trained with them.</summary>
/// <remarks>Parameter names are diffusers' own. Input: sample [B, C, H, W] in the network's dtype, timestep [B] or a single number, class labels [B] or null. Output: [B, C', H, W].</remarks>
public sealed class UNet2DModel : nn.Module<Tensor, Tensor, Tensor?, Tensor>
{
    private readonly Conv2d conv_in;
    private readonly nn.Module<Tensor, Tensor> time_proj;
    private readonly TimeEmbedding time_embedding;
    private readonly nn.Module<Tensor, Tensor>? class_embedding;
    private readonly ModuleList<DownStage> down_blocks;
    private readonly MiddleStage? mid_block;
    private readonly ModuleList<UpStage> up_blocks;
    private readonly GroupNorm conv_norm_out;
    private readonly Conv2d conv_out;
    private readonly Func<Tensor, Tensor> _activation;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or names a block that is not supported.</exception>
    public UNet2DModel(UNet2DConfig config)
        : base(nameof(UNet2DModel))
    {
        Config = config;
        var channels = config.BlockOutChannels;
        var stages = channels.Count;
        if (config.DownBlockTypes.Count != stages || config.UpBlockTypes.Count != stages)
            throw new ModelConfigException($"block_out_channels has {stages} entries, down_block_types {config.DownBlockTypes.Count}, up_block_types {config.UpBlockTypes.Count}: give one of each for every stage.");
        var width = channels[0] * 4;
        var options = new ResnetOptions(width, config.NormNumGroups, config.NormEps, config.ActFn, config.Dropout, ScaleShift(config.ResnetTimeScaleShift));
        // Residual blocks alone follow act_fn in this class.
        _activation = Activation.Named(Activation.Fixed);

        conv_in = Layers.Conv2d(config.InChannels, channels[0], 3, padding: 1);
        (time_proj, var inputs) = config.TimeEmbeddingType switch
        {
            "positional" => ((nn.Module<Tensor, Tensor>)new SinusoidalTimes(channels[0], config.FlipSinToCos, config.FreqShift), channels[0]),
            "fourier" => (new FourierTimes(channels[0]), 2 * channels[0]),
            var other => throw new ModelConfigException($"time_embedding_type '{other}' is not known. Known: positional, fourier."),
        };
        time_embedding = new TimeEmbedding(inputs, width, Activation.Fixed);
        class_embedding = (config.ClassEmbedType, config.NumClassEmbeds) switch
        {
            (null, null) => null,
            (null, { } count) => Layers.Embedding(count, width),
            ("timestep", _) => new TimeEmbedding(inputs, width, Activation.Fixed),
            ("identity", _) => nn.Identity(),
            var (other, _) => throw new ModelConfigException($"class_embed_type '{other}' is not known. Known: null, timestep, identity."),
        };

        down_blocks = nn.ModuleList([.. Enumerable.Range(0, stages).Select(i => Down(config, options, i))]);
        var last = channels[^1];
        var groups = config.AttnNormNumGroups ?? (options.ScaleShift ? null : (int?)config.NormNumGroups);
        mid_block = config.MidBlockType switch
        {
            null => null,
            "UNetMidBlock2D" => new MiddleStage(
                new ResnetBlock(last, last, options, config.MidBlockScaleFactor),
                config.AddAttention ? new SpatialAttention(last, config.AttentionHeadDim ?? last, groups, config.NormEps, config.MidBlockScaleFactor) : null,
                new ResnetBlock(last, last, options, config.MidBlockScaleFactor)),
            var other => throw new ModelConfigException($"mid_block_type is '{other}'. Supported: UNetMidBlock2D, null."),
        };
        up_blocks = nn.ModuleList([.. Enumerable.Range(0, stages).Select(i => Up(config, options, i))]);
        conv_norm_out = new GroupNorm(config.NormNumGroups, channels[0], config.NormEps);
        conv_out = Layers.Conv2d(channels[0], config.OutChannels, 3, padding: 1);
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public UNet2DConfig Config { get; }

    /// <summary>Keeps of every block only what goes into it, and computes the block again when the gradient passes it: memory for one evaluation more. The same gradient, bit for bit. Second derivatives are refused. Default: false.</summary>
    /// <remarks>Differentiate by <see cref="Gradients.Vjp"/>, which throws what goes wrong on the way back. Autograd's own <c>backward()</c> cannot: gradients are NaN then, and the next evaluation on the thread throws the reason.</remarks>
    public bool Checkpointing { get; set; }

    /// <summary>Predicts, without class labels.</summary>
    /// <param name="sample">Noisy sample [B, C, H, W], in the network's dtype.</param>
    /// <param name="timestep">Times, [B] or a single number, in trained steps.</param>
    /// <returns>The prediction [B, C', H, W], in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The network was trained with class labels.</exception>
    public Tensor forward(Tensor sample, Tensor timestep) => forward(sample, timestep, null);

    /// <summary>Predicts.</summary>
    /// <param name="sample">Noisy sample [B, C, H, W], in the network's dtype.</param>
    /// <param name="timestep">Times, [B] or a single number, in trained steps.</param>
    /// <param name="classLabels">Classes, int64 [B], of a network that has them; otherwise null.</param>
    /// <returns>The prediction [B, C', H, W], in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The network needs labels and none are given, or the reverse.</exception>
    public override Tensor forward(Tensor sample, Tensor timestep, Tensor? classLabels)
    {
        if (class_embedding is null != classLabels is null)
        {
            throw new ArgumentException(class_embedding is null
                ? "This network has no classes, but class labels were passed. Pass null."
                : "This network was trained with class labels (num_class_embeds or class_embed_type is set). Pass one for each sample.", nameof(classLabels));
        }

        using var scope = NewDisposeScope();
        var batch = sample.shape[0];
        var x = Config.CenterInputSample ? sample.mul(Rooted.Two).sub(Rooted.One) : sample;
        var times = timestep.reshape(-1).expand(batch);
        var time = time_embedding.call(time_proj.call(times).to(sample.dtype));
        if (class_embedding is not null)
        {
            var labels = Config.ClassEmbedType == "timestep" ? time_proj.call(classLabels!).to(sample.dtype) : classLabels!;
            time = time.Plus(class_embedding.call(labels));
        }

        x = conv_in.call(x);
        using var recomputed = Recomputed.Use(Checkpointing);
        var skips = new Stack<Tensor>([x]);
        foreach (var stage in down_blocks)
            x = stage.Run(x, time, null, skips);
        if (mid_block is not null)
            x = mid_block.Run(x, time, null);
        foreach (var stage in up_blocks)
            x = stage.Run(x, time, null, skips);
        x = conv_out.call(_activation(conv_norm_out.call(x)));
        if (Config.TimeEmbeddingType == "fourier")
            x = x.div(times.to(x.dtype).reshape(-1, 1, 1, 1));
        return x.MoveToOuterDisposeScope();
    }

    internal static bool ScaleShift(string value) => value switch
    {
        "default" => false,
        "scale_shift" => true,
        _ => throw new ModelConfigException($"resnet_time_scale_shift '{value}' is not known. Known: default, scale_shift."),
    };

    private static DownStage Down(UNet2DConfig config, ResnetOptions options, int stage)
    {
        var channels = config.BlockOutChannels;
        var (input, output) = (channels[Math.Max(stage - 1, 0)], channels[stage]);
        var attention = config.DownBlockTypes[stage] switch
        {
            "DownBlock2D" => false,
            "AttnDownBlock2D" => true,
            var other => throw new ModelConfigException($"down_block_types[{stage}] is '{other}'. Supported here: DownBlock2D, AttnDownBlock2D."),
        };
        nn.Module? downsampler = stage == channels.Count - 1 ? null
            : attention && Residual(config.DownsampleType, "downsample_type") ? new ResnetBlock(output, output, options, resampling: Resampling.Down)
            : new Downsample(output, config.DownsamplePadding);
        return new DownStage(
            Enumerable.Range(0, config.LayersPerBlock).Select(j => new ResnetBlock(j == 0 ? input : output, output, options)),
            attention ? Attentions(config, output, config.LayersPerBlock) : null,
            downsampler);
    }

    private static UpStage Up(UNet2DConfig config, ResnetOptions options, int stage)
    {
        var channels = config.BlockOutChannels.Reverse().ToArray();
        var (before, output, skip) = (channels[Math.Max(stage - 1, 0)], channels[stage], channels[Math.Min(stage + 1, channels.Length - 1)]);
        var attention = config.UpBlockTypes[stage] switch
        {
            "UpBlock2D" => false,
            "AttnUpBlock2D" => true,
            var other => throw new ModelConfigException($"up_block_types[{stage}] is '{other}'. Supported here: UpBlock2D, AttnUpBlock2D."),
        };
        nn.Module? upsampler = stage == channels.Length - 1 ? null
            : attention && Residual(config.UpsampleType, "upsample_type") ? new ResnetBlock(output, output, options, resampling: Resampling.Up)
            : new Upsample(output);
        var layers = config.LayersPerBlock + 1;
        return new UpStage(
            Enumerable.Range(0, layers).Select(j => new ResnetBlock((j == 0 ? before : output) + (j == layers - 1 ? skip : output), output, options)),
            attention ? Attentions(config, output, layers) : null,
            upsampler);
    }

    private static IEnumerable<nn.Module> Attentions(UNet2DConfig config, int channels, int count) =>
        Enumerable.Range(0, count).Select(_ => new SpatialAttention(channels, config.AttentionHeadDim ?? channels, config.NormNumGroups, config.NormEps));

    private static bool Residual(string type, string field) => type switch
    {
        "conv" => false,
        "resnet" => true,
        _ => throw new ModelConfigException($"{field} '{type}' is not known. Known: conv, resnet."),
    };
}
