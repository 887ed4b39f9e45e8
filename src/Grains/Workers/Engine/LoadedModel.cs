using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>A network on a device with what of it is trained. Its weights are those of the parameter version that was used last.</summary>
internal sealed class LoadedModel : IDisposable
{
    private readonly DiffusersFolder _folder;
    private readonly ScalarType _dtype;
    private UNet2DModel? _frozen;
    private string? _version;

    public LoadedModel(ExperimentSpec spec, Device device)
    {
        Device = device;
        _dtype = DtypeOf(spec);
        _folder = DiffusersFolder.Open(spec.Model.Path);
        if (_folder.UnetClass != nameof(UNet2DModel))
            throw new NotSupportedException($"'{spec.Model.Path}' holds a {_folder.UnetClass}; experiments train {nameof(UNet2DModel)} networks. Use a model without text conditioning.");
        Sha256 = HashOf(_folder);
        Network = Load();
        Part = TrainedPart.Of(Network, spec.Train, spec.Training.Seed);
        Schedule = _folder.ReadScheduler().Schedule();
        Prediction = _folder.ReadScheduler().Prediction;
    }

    public Device Device { get; }

    /// <summary>Hash of configuration, weights and scheduler.</summary>
    public string Sha256 { get; }

    public UNet2DModel Network { get; }

    public TrainedPart Part { get; }

    public DiscreteVp Schedule { get; }

    public Prediction Prediction { get; }

    public ScalarType Dtype => _dtype;

    public int? ClassEmbeddings => Network.Config.NumClassEmbeds;

    /// <summary>Shape of a batch of samples.</summary>
    public long[] Shape(int samples)
    {
        var size = Network.Config.SampleSize?.Values
            ?? throw new ModelConfigException($"'{_folder.UnetFolder}' does not say its sample_size. Add it to config.json.");
        return [samples, Network.Config.InChannels, size[0], size[^1]];
    }

    /// <summary>The network as it was before any training, on weights of its own.</summary>
    public UNet2DModel Frozen => _frozen ?? throw new InvalidOperationException("The frozen network was not loaded.");

    public void LoadFrozen() => _frozen ??= Load();

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

    /// <summary>Writes the network with its present weights in the layout it came in, in float32.</summary>
    public void Save(string folder)
    {
        using var plain = _folder.LoadUNet2D();
        using (no_grad())
        {
            var weights = Network.state_dict();
            foreach (var (name, value) in plain.state_dict())
                value.copy_(weights[name]);
        }
        DiffusersFolder.Save(folder, plain, _folder.ReadScheduler());
    }

    public void Dispose()
    {
        Part.Dispose();
        Network.Dispose();
        _frozen?.Dispose();
    }

    public static ScalarType DtypeOf(ExperimentSpec spec) => spec.Model.Dtype == NumberFormat.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>Changes when a file of the model does; cheap enough to ask before every use.</summary>
    public static string Stamp(string folder)
    {
        var stamp = new StringBuilder(folder);
        if (Directory.Exists(folder))
            foreach (var file in new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).OrderBy(file => file.FullName, StringComparer.Ordinal))
                stamp.Append(CultureInfo.InvariantCulture, $"|{file.FullName}:{file.Length}:{file.LastWriteTimeUtc.Ticks}");
        return stamp.ToString();
    }

    private static string HashOf(DiffusersFolder folder)
    {
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var path in (string?[])[Path.Combine(folder.UnetFolder, "config.json"), Path.Combine(folder.UnetFolder, "diffusion_pytorch_model.safetensors"), folder.SchedulerConfigPath])
        {
            if (!File.Exists(path))
                continue;
            using var file = File.OpenRead(path);
            all.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(path)));
            all.AppendData(SHA256.HashData(file));
        }
        return Convert.ToHexStringLower(all.GetHashAndReset());
    }

    private UNet2DModel Load()
    {
        var network = _folder.LoadUNet2D();
        network.to(Device, _dtype);
        foreach (var parameter in network.parameters())
            parameter.requires_grad_(false);
        return network;
    }
}
