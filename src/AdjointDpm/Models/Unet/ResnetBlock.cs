using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>What all residual blocks of one network share.</summary>
/// <param name="TimeWidth">Width of the time embedding; null in networks that see no time, such as autoencoders.</param>
/// <param name="Groups">Groups of the normalisations.</param>
/// <param name="Eps">Epsilon of the normalisations.</param>
/// <param name="Activation">Name of the activation.</param>
/// <param name="Dropout">Probability of dropout in training mode.</param>
/// <param name="ScaleShift">Time scales and shifts the second normalisation; otherwise it is added before it.</param>
internal sealed record ResnetOptions(long? TimeWidth, long Groups, double Eps, string Activation, double Dropout, bool ScaleShift);

/// <summary>How a residual block changes the resolution on its way.</summary>
internal enum Resampling
{
    None,
    Up,
    Down,
}

/// <summary>diffusers' <c>ResnetBlock2D</c>: two normalised 3×3 convolutions with the time in between, plus the input.</summary>
internal sealed class ResnetBlock : nn.Module<Tensor, Tensor?, Tensor>
{
    private readonly GroupNorm norm1;
    private readonly Conv2d conv1;
    private readonly Linear? time_emb_proj;
    private readonly GroupNorm norm2;
    private readonly Dropout dropout;
    private readonly Conv2d conv2;
    private readonly Conv2d? conv_shortcut;
    private readonly Func<Tensor, Tensor> _activation;
    private readonly Resampling _resampling;
    private readonly bool _scaleShift;
    private readonly Scalar? _outputScale;

    public ResnetBlock(long inChannels, long outChannels, ResnetOptions options, double outputScale = 1, Resampling resampling = Resampling.None)
        : base(nameof(ResnetBlock))
    {
        _activation = Activation.Named(options.Activation);
        _resampling = resampling;
        _scaleShift = options.ScaleShift;
        _outputScale = outputScale == 1 ? null : 1 / outputScale;
        norm1 = new GroupNorm(options.Groups, inChannels, options.Eps);
        conv1 = Layers.Conv2d(inChannels, outChannels, 3, padding: 1);
        time_emb_proj = options.TimeWidth is { } width ? Layers.Linear(width, options.ScaleShift ? 2 * outChannels : outChannels) : null;
        norm2 = new GroupNorm(options.Groups, outChannels, options.Eps);
        dropout = nn.Dropout(options.Dropout);
        conv2 = Layers.Conv2d(outChannels, outChannels, 3, padding: 1);
        conv_shortcut = inChannels == outChannels ? null : Layers.Conv2d(inChannels, outChannels, 1);
        RegisterComponents();
    }

    /// <summary>Whether the result is the input itself plus something.</summary>
    public bool Adds => conv_shortcut is null && _resampling == Resampling.None && _outputScale is null;

    public override Tensor forward(Tensor x, Tensor? time) => Run(x, x, time);

    /// <summary>The block with a handle of its input for each place that reads it.</summary>
    /// <param name="x">Goes through the convolutions.</param>
    /// <param name="around">The same, for the sum.</param>
    /// <param name="time">Time embedding; null in networks that see none.</param>
    public Tensor Run(Tensor x, Tensor around, Tensor? time)
    {
        using var scope = NewDisposeScope();
        var h = _activation(norm1.call(x));
        if (_resampling != Resampling.None)
            (around, h) = (Resample(around), Resample(h));
        h = conv1.call(h);
        var projected = time_emb_proj?.call(_activation(time!)).unsqueeze(-1).unsqueeze(-1);
        if (projected is null)
        {
            h = norm2.call(h);
        }
        else if (_scaleShift)
        {
            var parts = projected.chunk(2, 1);
            h = norm2.call(h).mul(parts[0].Plus(Rooted.One)).Plus(parts[1]);
        }
        else
        {
            h = norm2.call(h.Plus(projected));
        }

        h = conv2.call(dropout.call(_activation(h)));
        var shortcut = conv_shortcut is null ? around : conv_shortcut.call(around);
        var y = shortcut.Plus(h);
        if (_outputScale is not null)
            y = y.mul(_outputScale);
        return y.MoveToOuterDisposeScope();
    }

    private Tensor Resample(Tensor x) => _resampling == Resampling.Up
        ? nn.functional.interpolate(x, scale_factor: [2, 2], mode: InterpolationMode.Nearest)
        : nn.functional.avg_pool2d(x, 2, 2);
}
