using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>diffusers' <c>Downsample2D</c>: a 3×3 convolution with stride 2. Shape [B, C, H, W] to [B, C, ⌈H/2⌉, ⌈W/2⌉].</summary>
internal sealed class Downsample : nn.Module<Tensor, Tensor>
{
    private readonly Conv2d conv;
    private readonly bool _padAfter;

    public Downsample(long channels, long padding)
        : base(nameof(Downsample))
    {
        // Padding 0 means padding on the right and below only.
        _padAfter = padding == 0;
        conv = Layers.Conv2d(channels, channels, 3, stride: 2, padding: padding);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        if (!_padAfter)
            return conv.call(x);
        using var padded = nn.functional.pad(x, [0, 1, 0, 1]);
        return conv.call(padded);
    }
}

/// <summary>diffusers' <c>Upsample2D</c>: nearest neighbours to a given size, then a 3×3 convolution.</summary>
internal sealed class Upsample : nn.Module<Tensor, long[], Tensor>
{
    private readonly Conv2d conv;

    public Upsample(long channels)
        : base(nameof(Upsample))
    {
        conv = Layers.Conv2d(channels, channels, 3, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, long[] size)
    {
        using var larger = nn.functional.interpolate(x, size, mode: InterpolationMode.Nearest);
        return conv.call(larger);
    }
}
