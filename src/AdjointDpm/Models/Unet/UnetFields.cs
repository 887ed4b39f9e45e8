using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>Networks as noise fields: what a sampler asks for.</summary>
/// <remarks>The networks and tensors are not owned. Their parameters are made known by the name <c>unet</c>: declare or freeze them before differentiating. A network computes in its own dtype: x is cast to it and the prediction back to x's.</remarks>
public static class UnetFields
{
    /// <summary>An unconditional network, predicting eps for x [B, C, H, W]. Set <see cref="NoiseField.Prediction"/> for one trained on another target.</summary>
    /// <param name="model">Network without classes.</param>
    public static NoiseField Field(this UNet2DModel model)
    {
        var dtype = model.Dtype();
        return NoiseField.From((x, time) => model.forward(x.to(dtype), Time(time, x))).Knowing("unet", model);
    }

    /// <summary>A class-conditional network, with classifier-free guidance.</summary>
    /// <param name="model">Network with a table of classes.</param>
    /// <param name="labels">Class of each sample, int64 [B].</param>
    /// <param name="guidance">Weight w of ε(x, none) + w (ε(x, label) − ε(x, none)). Default: 1, no guidance and one evaluation.</param>
    /// <param name="noClass">The row of the table that was trained without a class. Default: the last.</param>
    /// <exception cref="ModelConfigException">Guidance is asked for and the network has no table of classes.</exception>
    public static NoiseField Field(this UNet2DModel model, Tensor labels, double guidance = 1, long? noClass = null)
    {
        var dtype = model.Dtype();
        Tensor Conditional(Tensor x, double time) => model.call(x.to(dtype), Time(time, x), labels);
        if (guidance == 1)
            return NoiseField.From(Conditional).Knowing("unet", model);
        var none = noClass ?? (model.Config.NumClassEmbeds - 1)
            ?? throw new ModelConfigException("The network has no table of classes (num_class_embeds), so there is nothing to guide by.");
        return NoiseField.Guided((x, time) => model.call(x.to(dtype), Time(time, x), tensor(none, device: x.device).expand(x.shape[0])), Conditional, guidance).Knowing("unet", model);
    }

    /// <summary>A network conditioned on a sequence, with classifier-free guidance.</summary>
    /// <param name="model">The network.</param>
    /// <param name="conditioning">Conditioning, [B, N, D]. Declare it with <see cref="NoiseField.With(string, Tensor)"/> to differentiate by it.</param>
    /// <param name="unconditional">Conditioning of the empty or negative prompt, [B, M, D]. Default: none, which leaves guidance out.</param>
    /// <param name="guidance">Weight w of ε(x, empty) + w (ε(x, c) − ε(x, empty)). Default: 1, no guidance and one evaluation.</param>
    /// <param name="added">SDXL's added conditioning. Default: none.</param>
    /// <param name="unconditionalAdded">SDXL's added conditioning of the empty or negative prompt. Default: <paramref name="added"/>.</param>
    /// <param name="classes">Classes, or vectors in their place, of a network that has them; the same with and without prompt. Default: none.</param>
    /// <exception cref="ArgumentException">Guidance is asked for without <paramref name="unconditional"/>.</exception>
    public static NoiseField Field(this UNet2DConditionModel model, Tensor conditioning, Tensor? unconditional = null, double guidance = 1, AddedConditioning? added = null, AddedConditioning? unconditionalAdded = null, Tensor? classes = null)
    {
        var dtype = model.Dtype();
        Tensor Predict(Tensor x, double time, Tensor context, AddedConditioning? more) => model.forward(x.to(dtype), Time(time, x), context.to(dtype), more, classes);
        if (guidance == 1)
            return NoiseField.From((x, time) => Predict(x, time, conditioning, added)).Knowing("unet", model);
        if (unconditional is null)
            throw new ArgumentException($"Guidance {guidance} needs the conditioning of the empty prompt. Pass it, or use guidance 1.", nameof(unconditional));
        return NoiseField.Guided((x, time) => Predict(x, time, unconditional, unconditionalAdded ?? added), (x, time) => Predict(x, time, conditioning, added), guidance).Knowing("unet", model);
    }

    private static Tensor Time(double time, Tensor x) => tensor(time, dtype: float32, device: x.device);
}
