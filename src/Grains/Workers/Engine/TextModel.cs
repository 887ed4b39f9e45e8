using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Models.Memory;
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
    private readonly StableDiffusionFolder _folder;
    private readonly StableDiffusionModel _model;
    private readonly SampleSpec _sample;
    private readonly bool _shared;
    private readonly Dictionary<string, PromptEmbeddings> _prompts;
    private Tensor? _trained;

    public TextModel(string path, SampleSpec sample, Device device, ScalarType dtype)
        : this(StableDiffusionFolder.Open(path), sample, null, device, dtype)
    {
    }

    private TextModel(StableDiffusionFolder folder, SampleSpec sample, TextModel? other, Device device, ScalarType dtype)
    {
        (_folder, _sample, _shared) = (folder, sample, other is not null);
        if (other is null)
        {
            (_model, _prompts) = (folder.Load(device, dtype), []);
            return;
        }

        var unet = folder.LoadUnet();
        unet.to(device, dtype);
        var parts = other._model;
        _model = new StableDiffusionModel(parts.Tokenizers, parts.TextEncoders, unet, parts.Autoencoder, parts.Scheduler) { ZerosForEmptyPrompt = parts.ZerosForEmptyPrompt };
        _prompts = other._prompts;
    }

    /// <summary>The same with the diffusion network's weights as they were before any training; all else is shared.</summary>
    public TextModel Untrained() => new(_folder, _sample, this, Unet.parameters().First().device, Unet.parameters().First().dtype);

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
            throw new InvalidDataException($"'{_folder.Path}' draws what a text asks for. Set sample.prompts.");
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

    public override void Spare(ModelSpec spec)
    {
        (Unet.Checkpointing, _model.Autoencoder.Checkpointing) = (spec.Checkpointing ?? false, spec.Checkpointing ?? false);
        Unet.FusedAttention = spec.FusedAttention ?? false;
        _model.Autoencoder.Slicing = spec.DecoderSlices ?? false;
        _model.Autoencoder.Tiles = spec.DecoderTiles is { } side ? new DecodeTiles(side) : null;
    }

    public override void Save(string folder, Lora? lora)
    {
        // Parts that were not trained as they came.
        if (Unet.parameters().First().dtype == ScalarType.Float32)
        {
            StableDiffusionFolder.Save(folder, _model);
            return;
        }

        using var plain = _folder.Load();
        Bring(plain.Unet, lora);
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

    public override long? PlannedBytes(ExperimentSpec spec)
    {
        // What these hold follows from draws, or from more networks than the sampler's.
        if (spec.Gradient.Method is GradientName.AlignProp or GradientName.ReFL or GradientName.LowVariance or GradientName.AdjointMatching)
            return null;
        var (height, width) = Size();
        var memory = new StableDiffusionMemory
        {
            Config = StableDiffusionConfig.Of(_model),
            Height = height,
            Width = width,
            Steps = spec.Sample.Steps,
            Batch = spec.Training.SamplesPerShard,
            Dtype = LoadedModel.DtypeOf(spec),
            Guided = spec.Sample.Guidance != 1,
            Trained = spec.Train.Target is TrainTarget.Weights or TrainTarget.Lora ? spec.Train.Include : [],
            Rank = spec.Train.Target == TrainTarget.Lora ? spec.Train.Rank : null,
        };
        var way = new MemoryWay(
            Unrolled: spec.Gradient.Method == GradientName.StoreAll,
            Checkpointing: spec.Model.Checkpointing ?? false,
            Slicing: spec.Model.DecoderSlices ?? false,
            Tile: spec.Model.DecoderTiles,
            Fused: spec.Model.FusedAttention ?? false,
            Offloaded: spec.Gradient.Method == GradientName.Offloaded);
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
