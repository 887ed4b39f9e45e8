using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What samples are drawn from: a network and what stands before and behind it. Weights are in the experiment's dtype, on the device.</summary>
internal abstract class SampledModel : IDisposable
{
    /// <summary>The network whose weights are trained.</summary>
    public abstract nn.Module Network { get; }

    /// <summary>All networks that are held, the trained one included.</summary>
    public abstract IEnumerable<nn.Module> Networks { get; }

    /// <summary>Channels of the pictures.</summary>
    public abstract int Channels { get; }

    /// <summary>Shape of a batch of what the sampler draws.</summary>
    public abstract long[] Shape(int samples);

    /// <summary>What samples may be asked to show, by number: classes or prompts. Empty when the model is asked for nothing.</summary>
    /// <param name="spec">Spec.</param>
    /// <param name="classesOf">Number of classes of a classifier folder.</param>
    public abstract int[] Conditions(ExperimentSpec spec, Func<string, int> classesOf);

    /// <summary>The classes that judges should see, of samples by what they were asked to show; empty when there are none.</summary>
    public abstract long[] Classes(long[] conditions);

    /// <summary>The network as a noise field, for samples by what they are asked to show.</summary>
    public abstract NoiseField Field(long[] conditions, double guidance);

    /// <summary>What of the conditioning can be trained: afterwards fields are made of it. For the model that is trained, not for the frozen one.</summary>
    public abstract TrainedConditioning Conditioning(ExperimentSpec spec);

    /// <summary>Sampled values as pictures in [-1, 1], differentiably.</summary>
    public abstract Tensor Picture(Tensor sample);

    /// <summary>What a shard's gradient will hold above the weights, by the model's configuration alone; null where only a measurement tells.</summary>
    public virtual long? PlannedBytes(ExperimentSpec spec) => null;

    /// <summary>Trades time for memory as the spec has it.</summary>
    public abstract void Spare(ModelSpec spec);

    /// <summary>Writes the model with its present weights in float32 in the layout it came in.</summary>
    /// <param name="folder">Where to.</param>
    /// <param name="train">Brings what was trained to the network in float32 that was loaded anew: what is trained is float32 at least, though a network in half precision has rounded it.</param>
    public abstract void Save(string folder, Action<nn.Module> train);

    /// <summary>The same as it was before any training, on weights of its own; all that is not trained may be shared.</summary>
    public abstract SampledModel Untrained();

    /// <summary>A LoRA for this model.</summary>
    public abstract LoraWeights ReadLora(string path);

    /// <summary>Writes adapters of <see cref="Network"/> as files that other programs load.</summary>
    public abstract void SaveLora(Lora lora, string folder, IReadOnlyDictionary<string, string> about);

    public abstract void Dispose();
}

/// <summary>A network that draws pictures themselves, of classes or of nothing in particular.</summary>
internal sealed class PictureModel : SampledModel
{
    private readonly DiffusersFolder _folder;
    private readonly UNet2DModel _network;
    private Tensor? _classes;

    public PictureModel(DiffusersFolder folder, Device device, ScalarType dtype)
    {
        (_folder, _network) = (folder, folder.LoadUNet2D(dtype));
        _network.to(device);
        foreach (var parameter in _network.parameters())
            parameter.requires_grad_(false);
    }

    public override SampledModel Untrained()
    {
        var weight = _network.parameters().First();
        return new PictureModel(_folder, weight.device, weight.dtype);
    }

    public override LoraWeights ReadLora(string path) => throw new InvalidDataException($"train.from is set, but '{_folder.Path}' holds a {_folder.UnetClass}; LoRA files are of text models. Remove it.");

    public override nn.Module Network => _network;

    public override IEnumerable<nn.Module> Networks => [_network];

    public override int Channels => _network.Config.InChannels;

    public override long[] Shape(int samples)
    {
        var size = _network.Config.SampleSize?.Values
            ?? throw new ModelConfigException($"'{_folder.UnetFolder}' does not say its sample_size. Add it to config.json.");
        return [samples, _network.Config.InChannels, size[0], size[^1]];
    }

    public override int[] Conditions(ExperimentSpec spec, Func<string, int> classesOf) => spec.Sample.Prompts is null
        ? SampleClasses.Of(spec, _network.Config.NumClassEmbeds, classesOf)
        : throw new InvalidDataException($"sample.prompts is set, but '{_folder.Path}' holds a {_folder.UnetClass}, which reads no text. Remove it.");

    public override long[] Classes(long[] conditions) => conditions;

    public override NoiseField Field(long[] conditions, double guidance)
    {
        if (conditions.Length == 0 && guidance != 1)
            throw new InvalidDataException($"sample.guidance is {guidance}, but the model has no classes to guide by. Set it to 1.");
        return conditions.Length == 0 ? _network.Field() : _network.Field(tensor(conditions, device: _network.parameters().First().device), guidance);
    }

    public override TrainedConditioning Conditioning(ExperimentSpec spec)
    {
        if (_network.Config.NumClassEmbeds is null)
            throw new InvalidDataException($"train.target is condition, but the model at '{_folder.Path}' has no classes. Choose another target.");
        var table = _network.get_parameter("class_embedding.weight")!;
        _classes = table.detach().unsqueeze(0).DetachFromDisposeScope();
        return new TrainedConditioning(_classes, table, "class_embedding.weight");
    }

    public override Tensor Picture(Tensor sample) => sample;

    public override void Spare(ModelSpec spec)
    {
        foreach (var (key, isSet) in new[] { ("decoderSlices", spec.DecoderSlices is not null), ("decoderTiles", spec.DecoderTiles is not null), ("fusedAttention", spec.FusedAttention is not null) })
            if (isSet)
                throw new InvalidDataException($"model.{key} is set, but '{_folder.Path}' holds a {_folder.UnetClass}, which has no {(key[0] == 'd' ? "decoder" : "attention to a text")}. Remove it.");
        _network.Checkpointing = spec.Checkpointing ?? false;
    }

    public override void Save(string target, Action<nn.Module> train)
    {
        using var plain = _folder.LoadUNet2D();
        train(plain);
        DiffusersFolder.Save(target, plain, _folder.ReadScheduler());
    }

    public override void SaveLora(Lora lora, string target, IReadOnlyDictionary<string, string> about) => lora.Save(Path.Combine(target, "pytorch_lora_weights.safetensors"));

    public override void Dispose()
    {
        _classes?.Dispose();
        _network.Dispose();
    }
}
