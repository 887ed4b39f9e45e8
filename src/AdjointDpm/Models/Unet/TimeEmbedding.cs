using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>Sines and cosines of the time; the step every diffusion network begins with. Shape [B] to [B, channels].</summary>
/// <remarks>
/// Always computed in float32, also for a float64 network, as diffusers does: trained weights have only ever seen these values.
/// Times may be real numbers; gradients with respect to time pass through.
/// </remarks>
internal sealed class SinusoidalTimes : nn.Module<Tensor, Tensor>
{
    private const double MaxPeriod = 10000;
    private readonly long _channels;
    private readonly bool _cosineFirst;
    private readonly float[] _frequencies;

    public SinusoidalTimes(long channels, bool flipSinToCos, double freqShift)
        : base(nameof(SinusoidalTimes))
    {
        (_channels, _cosineFirst) = (channels, flipSinToCos);
        // The original's float32 operations in its order, so that the values are the same to the last bit.
        using var scope = NewDisposeScope();
        Scalar logPeriod = -Math.Log(MaxPeriod), span = channels / 2 - freqShift;
        _frequencies = arange(channels / 2, dtype: float32, device: CPU).mul(logPeriod).div(span).exp().data<float>().ToArray();
        GC.KeepAlive((logPeriod, span));
    }

    public override Tensor forward(Tensor times)
    {
        using var scope = NewDisposeScope();
        var frequencies = torch.tensor(_frequencies, dtype: float32, device: times.device);
        var angles = times.to(float32).unsqueeze(-1).mul(frequencies.unsqueeze(0));
        var (sine, cosine) = (angles.sin(), angles.cos());
        var embedding = _cosineFirst ? cat([cosine, sine], -1) : cat([sine, cosine], -1);
        if (_channels % 2 == 1)
            embedding = nn.functional.pad(embedding, [0, 1]);
        return embedding.MoveToOuterDisposeScope();
    }
}

/// <summary>Sines and cosines of log(time) at fixed random frequencies. Shape [B] to [B, 2·channels].</summary>
/// <remarks>Song et al. (2021), score SDE; diffusers' <c>GaussianFourierProjection</c>.</remarks>
internal sealed class FourierTimes : nn.Module<Tensor, Tensor>
{
    private const double Scale = 16;
    private static readonly Scalar TwoPi = 2 * Math.PI;
    private static readonly Scalar Spread = Scale;
    private readonly Parameter weight;

    public FourierTimes(long channels)
        : base(nameof(FourierTimes))
    {
        weight = new Parameter(torch.randn(channels).mul(Spread), requires_grad: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor times)
    {
        using var scope = NewDisposeScope();
        var angles = times.to(weight.dtype).log().unsqueeze(-1).mul(weight.unsqueeze(0)).mul(TwoPi);
        return cat([angles.sin(), angles.cos()], -1).MoveToOuterDisposeScope();
    }
}

/// <summary>Two linear layers from the times' sines to the vector that every residual block sees. Shape [B, in] to [B, width].</summary>
internal sealed class TimeEmbedding : nn.Module<Tensor, Tensor>
{
    private readonly Linear linear_1;
    private readonly Linear linear_2;
    private readonly Func<Tensor, Tensor> _activation;

    public TimeEmbedding(long channels, long width, string activation)
        : base(nameof(TimeEmbedding))
    {
        _activation = Activation.Named(activation);
        linear_1 = Layers.Linear(channels, width);
        linear_2 = Layers.Linear(width, width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return linear_2.call(_activation(linear_1.call(x))).MoveToOuterDisposeScope();
    }
}
