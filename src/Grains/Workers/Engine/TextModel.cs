using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Stable Diffusion 1, 2 or XL: samples are asked for by prompts and drawn in latent space; pictures are decoded.</summary>
internal sealed class TextModel : SampledModel
{
    private readonly StableDiffusionSource _source;
    private readonly StableDiffusionModel _model;
    private readonly ModelSpec _spec;
    private readonly SampleSpec _sample;
    private readonly bool _shared;
    private readonly Dictionary<string, PromptEmbeddings> _prompts;
    private Tensor? _trained;

    public TextModel(StableDiffusionSource source, ExperimentSpec spec, Device device, ScalarType dtype)
    {
        (_source, _spec, _sample, _prompts) = (source, spec.Model, spec.Sample, []);
        _model = source.Load(device, dtype);
        AddLoras(_model, _ => true);
    }

    private TextModel(TextModel other)
    {
        (_source, _spec, _sample, _prompts, _shared) = (other._source, other._spec, other._sample, other._prompts, true);
        var weight = other.Unet.parameters().First();
        var unet = _source.LoadUnet(weight.dtype);
        unet.to(weight.device);
        var parts = other._model;
        _model = new StableDiffusionModel(parts.Tokenizers, parts.TextEncoders, unet, parts.Autoencoder, parts.Scheduler) { ZerosForEmptyPrompt = parts.ZerosForEmptyPrompt };
        // The text encoders are shared and have theirs.
        AddLoras(_model, component => component == LoraWeights.Unet);
    }

    /// <summary>The same with the diffusion network's weights as they were before any training; all else is shared.</summary>
    public override SampledModel Untrained() => new TextModel(this);

    public override LoraWeights ReadLora(string path) => LoraWeights.Read(path, _model);

    public override nn.Module Network => Unet;

    public override IEnumerable<nn.Module> Networks => [.. _model.TextEncoders, Unet, _model.Autoencoder];

    public override int Channels => _model.Autoencoder.Config.OutChannels;

    private UNet2DConditionModel Unet => _model.Unet;

    public override long[] Shape(int samples)
    {
        var (height, width) = Size();
        var r = _model.Autoencoder.Config.Reduction;
        return [samples, Unet.Config.InChannels, height / r, width / r];
    }

    public override int[] Conditions(ExperimentSpec spec, Func<string, int> classesOf)
    {
        if (spec.Sample.Prompts is not { Count: > 0 } prompts)
            throw new InvalidDataException($"'{_source.Path}' draws what a text asks for. Set sample.prompts.");
        if (spec.Sample.Classes is { } classes && classes.Count != prompts.Count)
            throw new InvalidDataException($"sample.classes holds {classes.Count} classes for {prompts.Count} prompts. Give each prompt the class that a classifier should see, or none.");
        return [.. Enumerable.Range(0, prompts.Count)];
    }

    public override long[] Classes(long[] conditions) => _sample.Classes is { } classes ? [.. conditions.Select(c => (long)classes[(int)c])] : [];

    public override NoiseField Field(long[] conditions, double guidance)
    {
        var (height, width) = Size();
        var prompts = Together([.. conditions.Select(c => Encoded(_sample.Prompts![(int)c]))]);
        var negative = guidance == 1 ? null : Together([.. conditions.Select(_ => Encoded(_sample.NegativePrompt))]);
        if (_trained is null)
            return _model.Field(prompts, negative, guidance, new PictureSize(height, width));
        using var frozen = no_grad();
        var states = _trained.index_select(0, tensor(conditions, device: _trained.device));
        return _model.Field(prompts with { States = states }, negative, guidance, new PictureSize(height, width)).With(TrainedConditioning.Name, states);
    }

    public override TrainedConditioning Conditioning(ExperimentSpec spec)
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        Conditions(spec, _ => 0);
        _trained = cat([.. spec.Sample.Prompts!.Select(prompt => Encoded(prompt).States)], 0).DetachFromDisposeScope();
        return new TrainedConditioning(_trained, null, "prompt_embeds");
    }

    public override Tensor Picture(Tensor sample) => _model.Decode(sample);

    /// <summary>Side of tiles that make decoding smaller, in pixels: half of what the autoencoder was trained on; null where pictures are no larger.</summary>
    public int? TileSide => _model.Autoencoder.Config.SampleSize.Values[0] / 2 is var side && side >= 8 * _model.Autoencoder.Config.Reduction && Math.Max(Size().Height, Size().Width) > side ? side : null;

    public override void Spare(ModelSpec spec)
    {
        (Unet.Checkpointing, _model.Autoencoder.Checkpointing) = (spec.Checkpointing ?? false, spec.Checkpointing ?? false);
        Unet.FusedAttention = spec.FusedAttention ?? false;
        _model.Autoencoder.Slicing = spec.DecoderSlices ?? false;
        _model.Autoencoder.Tiles = spec.DecoderTiles is { } side ? new DecodeTiles(side) : null;
    }

    public override void Save(string folder, Action<nn.Module> train)
    {
        // Parts that were not trained as they came.
        if (Unet.parameters().First().dtype == ScalarType.Float32)
        {
            StableDiffusionFolder.Save(folder, _model);
            return;
        }

        using var plain = _source.Load();
        AddLoras(plain, _ => true);
        train(plain.Unet);
        StableDiffusionFolder.Save(folder, plain);
    }

    public override void SaveLora(Lora lora, string folder, IReadOnlyDictionary<string, string> about)
    {
        using var weights = LoraWeights.Of(lora);
        weights.WriteBoth(folder, "lora", _model, about);
    }

    public override void Dispose()
    {
        if (_shared)
        {
            Unet.Dispose();
            return;
        }

        _trained?.Dispose();
        foreach (var prompt in _prompts.Values)
            prompt.Dispose();
        _model.Dispose();
    }

    private void AddLoras(StableDiffusionModel model, Func<string, bool> components)
    {
        foreach (var lora in _spec.Loras ?? [])
        {
            using var weights = LoraWeights.Read(lora.Path, model);
            weights.Merge(model, lora.Weight, components);
        }
    }

    public override long? PlannedBytes(ExperimentSpec spec)
    {
        if (MemoryEstimates.Configured(spec) is not { } way)
            return null;
        var (height, width) = Size();
        var memory = MemoryEstimates.MemoryOf(spec, StableDiffusionConfig.Of(_model), height, width);
        return memory.Estimate(way, memory.Weights()).PeakBytes;
    }

    private (int Height, int Width) Size()
    {
        var r = _model.Autoencoder.Config.Reduction;
        var (height, width) = StableDiffusionConfig.Of(_model).SizeOr(_sample.Height, _sample.Width, "Set sample.height and sample.width.");
        return height % r == 0 && width % r == 0 ? (height, width)
            : throw new InvalidDataException($"sample.height and sample.width are {height} and {width}; this model draws multiples of {r} pixels.");
    }

    /// <summary>Each prompt alone, so that its bits do not depend on what it is drawn together with; kept.</summary>
    private PromptEmbeddings Encoded(string? prompt)
    {
        // No text at all is not the empty text for every model; no prompt can hold this character.
        var key = prompt ?? "\0";
        if (_prompts.TryGetValue(key, out var known))
            return known;
        using var frozen = no_grad();
        return _prompts[key] = prompt is null ? _model.EncodeNothing(1) : _model.Encode([prompt]);
    }

    private static PromptEmbeddings Together(IReadOnlyList<PromptEmbeddings> prompts) => new(
        cat([.. prompts.Select(p => p.States)], 0), prompts[0].Pooled is null ? null : cat([.. prompts.Select(p => p.Pooled!)], 0));
}
