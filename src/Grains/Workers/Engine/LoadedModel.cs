using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>A network on a device with what of it is trained. Its weights are those of the parameter version that was used last.</summary>
internal sealed class LoadedModel : IDisposable
{
    private static readonly string[] TextParts = ["unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"];

    private readonly NumberFormat _format;
    private SampledModel? _frozen;
    private long? _bytes;
    private long? _frozenBytes;
    private string? _version;

    public LoadedModel(ExperimentSpec spec, Device device)
    {
        Device = device;
        _format = spec.Model.Dtype;
        Dtype = DtypeOf(spec);
        var path = spec.Model.Path;
        var folder = File.Exists(path) ? null : DiffusersFolder.Open(path);
        Sha256 = HashOf([.. folder is null ? [path] : Parts(folder), .. LoraFiles(spec.Model)]);
        SchedulerConfig scheduler;
        if (folder?.UnetClass == nameof(UNet2DModel))
        {
            if (spec.Model.Prediction is not null || spec.Model.Loras is not null)
                throw new InvalidDataException($"model.{(spec.Model.Prediction is null ? "loras" : "prediction")} is set, but '{path}' holds a {folder.UnetClass}, which reads no text. Remove it.");
            (Sampled, scheduler) = (new PictureModel(folder, device, NetworkDtype), folder.ReadScheduler());
        }
        else if (folder is null || folder.UnetClass == nameof(UNet2DConditionModel))
        {
            var source = StableDiffusionSource.At(path, spec.Model.Prediction is { } prediction ? ExperimentSpecJson.NameOf(prediction) : null);
            (Sampled, scheduler) = (new TextModel(source, spec, device, NetworkDtype), source.ReadConfig().Scheduler);
        }
        else
        {
            throw new NotSupportedException($"'{path}' holds a {folder.UnetClass}; experiments train {nameof(UNet2DModel)} networks and the {nameof(UNet2DConditionModel)} of Stable Diffusion 1, 2 and XL.");
        }

        Sampled.Spare(spec.Model);
        Part = TrainedPart.Of(Sampled, spec, Dtype, device);
        (Schedule, Prediction) = (scheduler.Schedule(), scheduler.Prediction);
    }

    public Device Device { get; }

    /// <summary>Hash of configurations, weights and scheduler.</summary>
    public string Sha256 { get; }

    /// <summary>What samples are drawn from.</summary>
    public SampledModel Sampled { get; }

    /// <summary>The network whose weights are trained.</summary>
    public nn.Module Network => Sampled.Network;

    public TrainedPart Part { get; }

    public NoiseSchedule Schedule { get; }

    public Prediction Prediction { get; }

    /// <summary>Dtype of states, losses and classifiers.</summary>
    public ScalarType Dtype { get; }

    private ScalarType NetworkDtype => NetworkDtypeOf(_format);

    /// <summary>Dtype of a network's weights.</summary>
    public static ScalarType NetworkDtypeOf(NumberFormat format) => format switch
    {
        NumberFormat.Float64 => ScalarType.Float64,
        NumberFormat.BFloat16 => ScalarType.BFloat16,
        NumberFormat.Float16 => ScalarType.Float16,
        _ => ScalarType.Float32,
    };

    /// <summary>Shape of a batch of what the sampler draws.</summary>
    public long[] Shape(int samples) => Sampled.Shape(samples);

    /// <summary>The model as it was before any training, on weights of its own.</summary>
    public SampledModel Frozen => _frozen ?? throw new InvalidOperationException("The frozen network was not loaded.");

    public void LoadFrozen() => _frozen ??= Sampled.Untrained();

    /// <summary>Bytes of all weights, those of the frozen network included.</summary>
    public long Bytes => (_bytes ??= BytesOf(Sampled.Networks)) + (_frozen is null ? 0 : _frozenBytes ??= BytesOf([_frozen.Network]));

    /// <summary>Bytes of networks' weights and buffers.</summary>
    public static long BytesOf(IEnumerable<nn.Module> networks)
    {
        using var scope = NewDisposeScope();
        return networks.Sum(network => network.state_dict().Values.Sum(value => value.numel() * value.element_size()));
    }

    /// <summary>False when there was none.</summary>
    public bool DropFrozen()
    {
        if (_frozen is null)
            return false;
        _frozen.Dispose();
        _frozen = null;
        return true;
    }

    public void Use(ParameterVersion version)
    {
        if (_version == version.Sha256)
            return;
        _version = null;
        TorchBytes.Write(version.Bytes.Span, Part.Values);
        Part.Apply();
        _version = version.Sha256;
    }

    public byte[] Initial() => TorchBytes.Read(Part.Values);

    public void Dispose()
    {
        Part.Dispose();
        _frozen?.Dispose();
        Sampled.Dispose();
    }

    public static ScalarType DtypeOf(ExperimentSpec spec) => spec.Model.Dtype == NumberFormat.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>Changes when a file of the model does; cheap enough to ask before every use.</summary>
    public static string Stamp(string folder)
    {
        var stamp = new StringBuilder(folder);
        if (new FileInfo(folder) is { Exists: true } single)
            stamp.Append(CultureInfo.InvariantCulture, $"|{single.Length}:{single.LastWriteTimeUtc.Ticks}");
        if (Directory.Exists(folder))
            foreach (var file in new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).OrderBy(file => file.FullName, StringComparer.Ordinal))
                stamp.Append(CultureInfo.InvariantCulture, $"|{file.FullName}:{file.Length}:{file.LastWriteTimeUtc.Ticks}");
        return stamp.ToString();
    }

    private static string HashOf(IEnumerable<string> files)
    {
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var path in files.Where(File.Exists))
        {
            using var file = File.OpenRead(path);
            all.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(path)));
            all.AppendData(SHA256.HashData(file));
        }
        return Convert.ToHexStringLower(all.GetHashAndReset());
    }

    private static IEnumerable<string> LoraFiles(ModelSpec model) => (model.Loras ?? []).SelectMany(lora => File.Exists(lora.Path) ? new[] { lora.Path }.AsEnumerable()
        : Directory.EnumerateFiles(lora.Path, "*", SearchOption.AllDirectories).Where(IsPart).Order(StringComparer.Ordinal));

    /// <summary>The files that decide what is drawn: of a text model everything that its loader may read, of a network its own folder and its scheduler.</summary>
    private static IEnumerable<string> Parts(DiffusersFolder folder) => folder.UnetClass == nameof(UNet2DConditionModel)
        ? TextParts.Select(part => Path.Combine(folder.Path, part)).Where(Directory.Exists).SelectMany(part => Directory.EnumerateFiles(part).Where(IsPart).Order(StringComparer.Ordinal))
            .Prepend(Path.Combine(folder.Path, "model_index.json"))
        : [.. Directory.EnumerateFiles(folder.UnetFolder).Where(IsPart).Order(StringComparer.Ordinal).Append(folder.SchedulerConfigPath ?? "").Distinct()];

    // Variants and parts of split weights too: which of them is read is the loader's affair.
    private static bool IsPart(string file) => Path.GetExtension(file) is ".json" or ".txt" or ".safetensors";
}
