using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>What SDXL adds to the time.</summary>
/// <param name="TextEmbeds">Pooled states of the second text encoder, [B, P].</param>
/// <param name="TimeIds">Original height and width, crop's top and left, wanted height and width, in pixels: [B, 6].</param>
public sealed record AddedConditioning(Tensor TextEmbeds, Tensor TimeIds);

/// <summary>diffusers' <c>UNet2DConditionModel</c>: the noise predictor of Stable Diffusion 1, 2 and XL.</summary>
/// <remarks>
/// Parameter names are diffusers' own. Input: sample [B, C, H, W] in the network's dtype, timestep [B] or a single number,
/// conditioning [B, N, D] (a text encoder's states). Output: [B, C', H, W].
/// </remarks>
public sealed class UNet2DConditionModel : nn.Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly Conv2d conv_in;
    private readonly SinusoidalTimes time_proj;
    private readonly TimeEmbedding time_embedding;
    private readonly SinusoidalTimes? add_time_proj;
    private readonly TimeEmbedding? add_embedding;
    private readonly nn.Module<Tensor, Tensor>? class_embedding;
    private readonly ModuleList<DownStage> down_blocks;
    private readonly MiddleStage? mid_block;
    private readonly ModuleList<UpStage> up_blocks;
    private readonly GroupNorm conv_norm_out;
    private readonly Conv2d conv_out;
    private readonly Func<Tensor, Tensor> _activation;
    private bool _fused;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or names a block that is not supported.</exception>
    public UNet2DConditionModel(UNet2DConditionConfig config)
        : base(nameof(UNet2DConditionModel))
    {
        Config = config;
        var channels = config.BlockOutChannels;
        var stages = channels.Count;
        if (config.DownBlockTypes.Count != stages || config.UpBlockTypes.Count != stages)
            throw new ModelConfigException($"block_out_channels has {stages} entries, down_block_types {config.DownBlockTypes.Count}, up_block_types {config.UpBlockTypes.Count}: give one of each for every stage.");
        var width = channels[0] * 4;
        var options = new ResnetOptions(width, config.NormNumGroups, config.NormEps, config.ActFn, config.Dropout, UNet2DModel.ScaleShift(config.ResnetTimeScaleShift));
        _activation = Activation.Named(config.ActFn);

        conv_in = Layers.Conv2d(config.InChannels, channels[0], config.ConvInKernel, padding: (config.ConvInKernel - 1) / 2);
        time_proj = new SinusoidalTimes(channels[0], config.FlipSinToCos, config.FreqShift);
        time_embedding = new TimeEmbedding(channels[0], width, config.ActFn);
        switch (config.AdditionEmbedType)
        {
            case null:
                break;
            case "text_time" when config is { AdditionTimeEmbedDim: { } one, ProjectionClassEmbeddingsInputDim: { } all }:
                add_time_proj = new SinusoidalTimes(one, config.FlipSinToCos, config.FreqShift);
                add_embedding = new TimeEmbedding(all, width, Activation.Fixed);
                break;
            case var other:
                throw new ModelConfigException($"addition_embed_type is '{other}'. Supported: null, and text_time with addition_time_embed_dim and projection_class_embeddings_input_dim.");
        }

        class_embedding = config switch
        {
            { ClassEmbedType: null, NumClassEmbeds: null } => null,
            { ClassEmbedType: null, NumClassEmbeds: { } rows } => Layers.Embedding(rows, width),
            { ClassEmbedType: "timestep" } => new TimeEmbedding(channels[0], width, config.ActFn),
            { ClassEmbedType: "identity" } => nn.Identity(),
            { ClassEmbedType: "projection", ProjectionClassEmbeddingsInputDim: { } vector } => new TimeEmbedding(vector, width, Activation.Fixed),
            { ClassEmbedType: "simple_projection", ProjectionClassEmbeddingsInputDim: { } vector } => Layers.Linear(vector, width),
            _ => throw new ModelConfigException($"class_embed_type is '{config.ClassEmbedType}'. Supported: null, timestep, identity, and projection and simple_projection with projection_class_embeddings_input_dim."),
        };
        down_blocks = nn.ModuleList([.. Enumerable.Range(0, stages).Select(i => Down(config, options, i))]);
        mid_block = config.MidBlockType switch
        {
            null => null,
            "UNetMidBlock2DCrossAttn" => new MiddleStage(
                new ResnetBlock(channels[^1], channels[^1], options, config.MidBlockScaleFactor),
                Transformers(config, channels[^1], stages - 1, 1, onlyCross: false).Single(),
                new ResnetBlock(channels[^1], channels[^1], options, config.MidBlockScaleFactor)),
            var other => throw new ModelConfigException($"mid_block_type is '{other}'. Supported: UNetMidBlock2DCrossAttn, null."),
        };
        up_blocks = nn.ModuleList([.. Enumerable.Range(0, stages).Select(i => Up(config, options, i))]);
        conv_norm_out = new GroupNorm(config.NormNumGroups, channels[0], config.NormEps);
        conv_out = Layers.Conv2d(channels[0], config.OutChannels, config.ConvOutKernel, padding: (config.ConvOutKernel - 1) / 2);
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public UNet2DConditionConfig Config { get; }

    /// <summary>Keeps of every block only what goes into it, and computes the block again when the gradient passes it: memory for one evaluation more. The same gradient, bit for bit. Second derivatives are refused. Default: false.</summary>
    /// <remarks>Differentiate by <see cref="Gradients.Vjp"/>, which throws what goes wrong on the way back. Autograd's own <c>backward()</c> cannot: gradients are NaN then, and the next evaluation on the thread throws the reason.</remarks>
    public bool Checkpointing { get; set; }

    /// <summary>Computes attention by libtorch's fused kernel, which keeps no weights of pixels by pixels for the way back: less memory, the same gradient to rounding, other bits. Second derivatives are not offered by it. Default: false.</summary>
    public bool FusedAttention
    {
        get => _fused;
        set
        {
            _fused = value;
            Attention.Fuse(this, value);
        }
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor sample, Tensor timestep, Tensor encoderHiddenStates) => forward(sample, timestep, encoderHiddenStates, null);

    /// <summary>Predicts with SDXL's added conditioning.</summary>
    /// <param name="sample">Noisy sample [B, C, H, W], in the network's dtype.</param>
    /// <param name="timestep">Times, [B] or a single number, in trained steps.</param>
    /// <param name="encoderHiddenStates">Conditioning [B, N, D], in the network's dtype.</param>
    /// <param name="added">What SDXL adds to the time; null for other networks.</param>
    /// <returns>The prediction [B, C', H, W], in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The network needs added conditioning and none is given, or the reverse.</exception>
    public Tensor forward(Tensor sample, Tensor timestep, Tensor encoderHiddenStates, AddedConditioning? added) => forward(sample, timestep, encoderHiddenStates, added, null);

    /// <summary>Predicts with classes.</summary>
    /// <param name="sample">Noisy sample [B, C, H, W], in the network's dtype.</param>
    /// <param name="timestep">Times, [B] or a single number, in trained steps.</param>
    /// <param name="encoderHiddenStates">Conditioning [B, N, D], in the network's dtype.</param>
    /// <param name="added">What SDXL adds to the time; null for other networks.</param>
    /// <param name="classes">Of a network that has them, int64 [B]; noise levels [B] for <c>timestep</c>; vectors [B, width] for the other kinds. Null otherwise.</param>
    /// <returns>The prediction [B, C', H, W], in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The network needs added conditioning or classes and they are not given, or the reverse.</exception>
    public Tensor forward(Tensor sample, Tensor timestep, Tensor encoderHiddenStates, AddedConditioning? added, Tensor? classes)
    {
        if (class_embedding is null != classes is null)
        {
            throw new ArgumentException(classes is null
                ? "This network was trained with classes (num_class_embeds or class_embed_type is set). Pass one for each sample."
                : "This network has no classes. Pass null.", nameof(classes));
        }

        if (add_embedding is null != added is null)
        {
            throw new ArgumentException(added is null
                ? "This network (SDXL) needs pooled text and picture sizes besides the sequence. Pass them as added conditioning."
                : "This network has no place for added conditioning. Pass null.", nameof(added));
        }

        using var scope = NewDisposeScope();
        var x = Config.CenterInputSample ? sample.mul(Rooted.Two).sub(Rooted.One) : sample;
        var times = timestep.reshape(-1).expand(sample.shape[0]);
        var time = time_embedding.call(time_proj.call(times).to(sample.dtype));
        if (added is not null)
        {
            var numbers = add_time_proj!.call(added.TimeIds.flatten()).reshape(added.TextEmbeds.shape[0], -1);
            time = time.Plus(add_embedding!.call(cat([added.TextEmbeds.to(sample.dtype), numbers.to(sample.dtype)], -1)));
        }

        if (class_embedding is not null)
            time = time.Plus(class_embedding.call(Config.ClassEmbedType is null ? classes! : (Config.ClassEmbedType == "timestep" ? time_proj.call(classes!) : classes!).to(sample.dtype)));
        x = conv_in.call(x);
        using var recomputed = Recomputed.Use(Checkpointing);
        var skips = new Stack<Tensor>([x]);
        foreach (var stage in down_blocks)
            x = stage.Run(x, time, encoderHiddenStates, skips);
        if (mid_block is not null)
            x = mid_block.Run(x, time, encoderHiddenStates);
        foreach (var stage in up_blocks)
            x = stage.Run(x, time, encoderHiddenStates, skips);
        return conv_out.call(_activation(conv_norm_out.call(x))).MoveToOuterDisposeScope();
    }

    private static DownStage Down(UNet2DConditionConfig config, ResnetOptions options, int stage)
    {
        var channels = config.BlockOutChannels;
        var (input, output) = (channels[Math.Max(stage - 1, 0)], channels[stage]);
        var attention = config.DownBlockTypes[stage] switch
        {
            "DownBlock2D" => false,
            "CrossAttnDownBlock2D" => true,
            var other => throw new ModelConfigException($"down_block_types[{stage}] is '{other}'. Supported here: DownBlock2D, CrossAttnDownBlock2D."),
        };
        return new DownStage(
            Enumerable.Range(0, config.LayersPerBlock).Select(j => new ResnetBlock(j == 0 ? input : output, output, options)),
            attention ? Transformers(config, output, stage, config.LayersPerBlock, config.OnlyCrossAttention) : null,
            stage == channels.Count - 1 ? null : new Downsample(output, config.DownsamplePadding));
    }

    private static UpStage Up(UNet2DConditionConfig config, ResnetOptions options, int stage)
    {
        var channels = config.BlockOutChannels.Reverse().ToArray();
        var (before, output, skip) = (channels[Math.Max(stage - 1, 0)], channels[stage], channels[Math.Min(stage + 1, channels.Length - 1)]);
        var attention = config.UpBlockTypes[stage] switch
        {
            "UpBlock2D" => false,
            "CrossAttnUpBlock2D" => true,
            var other => throw new ModelConfigException($"up_block_types[{stage}] is '{other}'. Supported here: UpBlock2D, CrossAttnUpBlock2D."),
        };
        var layers = config.LayersPerBlock + 1;
        return new UpStage(
            Enumerable.Range(0, layers).Select(j => new ResnetBlock((j == 0 ? before : output) + (j == layers - 1 ? skip : output), output, options)),
            attention ? Transformers(config, output, channels.Length - 1 - stage, layers, config.OnlyCrossAttention) : null,
            stage == channels.Length - 1 ? null : new Upsample(output));
    }

    // Lists in the configuration are in the order of the way down; stage counts that way too.
    private static IEnumerable<nn.Module> Transformers(UNet2DConditionConfig config, int channels, int stage, int count, bool onlyCross)
    {
        var stages = config.BlockOutChannels.Count;
        var heads = (config.NumAttentionHeads ?? config.AttentionHeadDim).At(stage, stages, "attention_head_dim");
        var depth = config.TransformerLayersPerBlock.At(stage, stages, "transformer_layers_per_block");
        var options = new TransformerOptions(config.CrossAttentionDim.At(stage, stages, "cross_attention_dim"), config.NormNumGroups, config.UseLinearProjection, onlyCross, config.UpcastAttention);
        return Enumerable.Range(0, count).Select(_ => new Transformer(channels, heads, depth, options));
    }
}
