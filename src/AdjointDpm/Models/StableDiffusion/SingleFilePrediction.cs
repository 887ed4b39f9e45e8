using AdjointDpm.Formats;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>What a single-file checkpoint says of the prediction of its network. The weights of networks of eps and of v have the same names and shapes.</summary>
/// <remarks>
/// In the order in which it is believed: the strings <c>modelspec.prediction_type</c> and <c>ss_v_parameterization</c> of the header; empty tensors named <c>v_pred</c> and
/// <c>ztsnr</c>, by which interfaces know networks of v and schedules without signal at their end. Of Stable Diffusion 2 without any of them, a bias of its last attention,
/// which deviates by more than 0.09 in the networks of v that were released: the rule of those interfaces.
/// </remarks>
internal static class SingleFilePrediction
{
    private const string Epsilon = "epsilon", Velocity = "v_prediction", VelocityMark = "v_pred", NoSignalMark = "ztsnr", Spec = "modelspec.prediction_type";
    private const double DeviationOfVelocity = 0.09;

    /// <summary>A configuration with what is known of the prediction.</summary>
    /// <param name="config">The configuration.</param>
    /// <param name="file">The checkpoint.</param>
    /// <param name="guesses">Whether the configuration is the released model's and not the file's own.</param>
    /// <param name="asked">What the caller wants it to be; null for nothing.</param>
    /// <exception cref="ArgumentException">What is asked for is no prediction.</exception>
    public static StableDiffusionConfig Applied(StableDiffusionConfig config, WeightFiles file, bool guesses, string? asked)
    {
        _ = StableDiffusionSource.Predicting(config.Scheduler, asked);
        var prediction = asked ?? Said(file.Names, file.Metadata) ?? (guesses && config.Kind == SingleFileKind.Sd2 ? Guessed(file, config) : null);
        if (prediction is null)
            return config;
        var scheduler = config.Scheduler with { PredictionType = prediction };
        if (prediction == Velocity && file.Names.Contains(NoSignalMark))
            scheduler = scheduler with { RescaleBetasZeroSnr = true };
        return config with { Scheduler = scheduler };
    }

    /// <summary>Strings for the header.</summary>
    public static Dictionary<string, string> Strings(StableDiffusionModel model)
    {
        var velocity = IsVelocity(model);
        return new()
        {
            [Spec] = velocity ? "v" : Epsilon,
            ["modelspec.sai_model_spec"] = "1.0.1",
            ["modelspec.architecture"] = Architecture(model),
        };
    }

    /// <summary>The kind of a model by its name in ModelSpec.</summary>
    public static string Architecture(StableDiffusionModel model) => SingleFileCheckpoint.KindOf(model) switch
    {
        SingleFileKind.Sd1 => "stable-diffusion-v1",
        SingleFileKind.Sd2 => IsVelocity(model) ? "stable-diffusion-v2-768-v" : "stable-diffusion-v2-512",
        _ => "stable-diffusion-xl-v1-base",
    };

    /// <summary>Marks for interfaces, which look at names alone.</summary>
    public static void AddTo(Dictionary<string, Tensor> tensors, StableDiffusionModel model)
    {
        if (!IsVelocity(model) || SingleFileCheckpoint.KindOf(model) == SingleFileKind.Sd2)
            return;
        tensors[VelocityMark] = empty(0, dtype: ScalarType.Float32);
        if (model.Scheduler.RescaleBetasZeroSnr)
            tensors[NoSignalMark] = empty(0, dtype: ScalarType.Float32);
    }

    private static bool IsVelocity(StableDiffusionModel model) => model.Scheduler.Prediction == Prediction.Velocity;

    /// <summary>What a header says; null for nothing.</summary>
    public static string? Said(IEnumerable<string> names, IReadOnlyDictionary<string, string> metadata) => metadata.GetValueOrDefault(Spec) switch
    {
        "v" or Velocity => Velocity,
        Epsilon => Epsilon,
        _ when metadata.GetValueOrDefault("ss_v_parameterization") is { } flag => flag == "True" ? Velocity : Epsilon,
        _ => names.Contains(VelocityMark) ? Velocity : null,
    };

    private static string? Guessed(WeightFiles file, StableDiffusionConfig config)
    {
        var last = config.Unet.BlockOutChannels.Count * (config.Unet.LayersPerBlock + 1) - 1;
        var name = FormattableString.Invariant($"{SingleFileNames.Unet}output_blocks.{last}.1.transformer_blocks.0.norm1.bias");
        if (!file.Names.Contains(name))
            return null;
        using var scope = NewDisposeScope();
        return file.Read(name).to(float64).std(unbiased: false).Number() > DeviationOfVelocity ? Velocity : Epsilon;
    }
}
