using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>One stage on the way down: residual blocks, each with an attention behind it where the stage has them, then a change of resolution.</summary>
/// <remarks>diffusers' <c>DownBlock2D</c>, <c>AttnDownBlock2D</c> and <c>CrossAttnDownBlock2D</c>; parameter names are theirs.</remarks>
internal sealed class DownStage : nn.Module
{
    private readonly ModuleList<ResnetBlock> resnets;
    private readonly ModuleList<nn.Module>? attentions;
    private readonly ModuleList<nn.Module>? downsamplers;

    public DownStage(IEnumerable<ResnetBlock> resnets, IEnumerable<nn.Module>? attentions, nn.Module? downsampler)
        : base(nameof(DownStage))
    {
        this.resnets = nn.ModuleList([.. resnets]);
        this.attentions = attentions is null ? null : nn.ModuleList([.. attentions]);
        downsamplers = downsampler is null ? null : nn.ModuleList(downsampler);
        RegisterComponents();
    }

    /// <summary>Runs the stage; every result on the way is pushed on <paramref name="skips"/> for the way up.</summary>
    public Tensor Run(Tensor x, Tensor time, Tensor? context, Stack<Tensor> skips)
    {
        for (var i = 0; i < resnets.Count; i++)
        {
            x = Stage.Attend(Stage.Resolve(resnets[i], x, time), attentions?[i], context);
            skips.Push(x);
        }

        switch (downsamplers?[0])
        {
            case Downsample convolution:
                x = convolution.call(x);
                skips.Push(x);
                break;
            case ResnetBlock residual:
                x = Stage.Resolve(residual, x, time);
                skips.Push(x);
                break;
        }

        return x;
    }
}

/// <summary>One stage on the way up: residual blocks that take the matching results from the way down, attentions, then a change of resolution.</summary>
/// <remarks>diffusers' <c>UpBlock2D</c>, <c>AttnUpBlock2D</c> and <c>CrossAttnUpBlock2D</c>.</remarks>
internal sealed class UpStage : nn.Module
{
    private readonly ModuleList<ResnetBlock> resnets;
    private readonly ModuleList<nn.Module>? attentions;
    private readonly ModuleList<nn.Module>? upsamplers;

    public UpStage(IEnumerable<ResnetBlock> resnets, IEnumerable<nn.Module>? attentions, nn.Module? upsampler)
        : base(nameof(UpStage))
    {
        this.resnets = nn.ModuleList([.. resnets]);
        this.attentions = attentions is null ? null : nn.ModuleList([.. attentions]);
        upsamplers = upsampler is null ? null : nn.ModuleList(upsampler);
        RegisterComponents();
    }

    /// <summary>Runs the stage, popping from <paramref name="skips"/>. The next skip decides the size to grow to, so that odd sizes come back as they were.</summary>
    public Tensor Run(Tensor x, Tensor time, Tensor? context, Stack<Tensor> skips)
    {
        for (var i = 0; i < resnets.Count; i++)
        {
            using var joined = cat([x, skips.Pop()], 1);
            x = Stage.Attend(Stage.Resolve(resnets[i], joined, time), attentions?[i], context);
        }

        return upsamplers?[0] switch
        {
            Upsample convolution => convolution.call(x, [.. skips.Peek().shape.Skip(2)]),
            ResnetBlock residual => Stage.Resolve(residual, x, time),
            _ => x,
        };
    }
}

/// <summary>The middle of the network: a residual block, then pairs of attention and residual block.</summary>
/// <remarks>diffusers' <c>UNetMidBlock2D</c> and <c>UNetMidBlock2DCrossAttn</c>.</remarks>
internal sealed class MiddleStage : nn.Module
{
    private readonly ModuleList<nn.Module>? attentions;
    private readonly ModuleList<ResnetBlock> resnets;

    public MiddleStage(ResnetBlock first, nn.Module? attention, ResnetBlock second)
        : base(nameof(MiddleStage))
    {
        resnets = nn.ModuleList(first, second);
        attentions = attention is null ? null : nn.ModuleList(attention);
        RegisterComponents();
    }

    public Tensor Run(Tensor x, Tensor? time, Tensor? context) =>
        Stage.Resolve(resnets[1], Stage.Attend(Stage.Resolve(resnets[0], x, time), attentions?[0], context), time);
}

/// <summary>What the stages share.</summary>
internal static class Stage
{
    public static Tensor Resolve(ResnetBlock block, Tensor x, Tensor? time) => !Recomputed.IsOn ? block.call(x, time)
        : Recomputed.Of(block, x, time, 1, block.Adds, (main, around, next) => block.Run(main, around, time is null ? null : next()));

    public static Tensor Attend(Tensor x, nn.Module? attention, Tensor? context) => attention switch
    {
        SpatialAttention spatial => !Recomputed.IsOn ? spatial.call(x) : Recomputed.Of(spatial, x, null, 0, spatial.Adds, (main, around, _) => spatial.Run(main, around)),
        Transformer transformer => !Recomputed.IsOn ? transformer.call(x, context!) : Recomputed.Of(transformer, x, context, transformer.ContextUses, adds: true, transformer.Run),
        _ => x,
    };
}
