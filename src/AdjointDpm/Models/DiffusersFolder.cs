using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models.Unet;
using static TorchSharp.torch;

namespace AdjointDpm.Models;

/// <summary>A diffusion model on disk, as diffusers lays it out.</summary>
/// <remarks>
/// A pipeline's folder has <c>model_index.json</c>, <c>unet/</c> and <c>scheduler/</c>. A network's own folder, which holds its
/// <c>config.json</c> directly, is taken as well. Weights may be split by an index; where only their <c>fp16</c> variant is there, it is read.
/// </remarks>
public sealed class DiffusersFolder
{
    private const string ConfigFile = "config.json";
    private const string WeightsFile = "diffusion_pytorch_model.safetensors";
    private const string SchedulerFile = "scheduler_config.json";

    private DiffusersFolder(string path, string unetFolder) => (Path, UnetFolder) = (path, unetFolder);

    /// <summary>The folder that was opened.</summary>
    public string Path { get; }

    /// <summary>The folder with the network's configuration and weights.</summary>
    public string UnetFolder { get; }

    /// <summary>The network's class, such as <c>UNet2DModel</c>.</summary>
    public string UnetClass => ModelConfig.ClassName(System.IO.Path.Combine(UnetFolder, ConfigFile)) ?? "";

    /// <summary>Path of the scheduler's configuration, or null when the folder has none.</summary>
    public string? SchedulerConfigPath =>
        new[] { System.IO.Path.Combine(Path, "scheduler", SchedulerFile), System.IO.Path.Combine(Path, SchedulerFile) }.FirstOrDefault(File.Exists);

    /// <summary>Opens a folder; nothing is loaded yet.</summary>
    /// <exception cref="ModelConfigException">There is no such folder, or it holds no network.</exception>
    public static DiffusersFolder Open(string path)
    {
        if (!Directory.Exists(path))
            throw Missing(path);
        var nested = System.IO.Path.Combine(path, "unet");
        if (File.Exists(System.IO.Path.Combine(nested, ConfigFile)))
            return new DiffusersFolder(path, nested);
        if (File.Exists(System.IO.Path.Combine(path, ConfigFile)))
            return new DiffusersFolder(path, path);
        var index = System.IO.Path.Combine(path, "model_index.json");
        if (File.Exists(index))
            throw new ModelConfigException($"{path}: is a pipeline of class {ModelConfig.ClassName(index) ?? "unknown"}, which has no unet/{ConfigFile}. Read are pipelines of Stable Diffusion 1, 2 and XL, and of a UNet2DModel.");
        throw new ModelConfigException($"{path}: holds neither unet/{ConfigFile} nor {ConfigFile}. Point to a diffusers pipeline or to the folder of its network.");
    }

    /// <summary>What to say where a folder was asked for and there is none.</summary>
    internal static ModelConfigException Missing(string path) => new(File.Exists(path)
        ? $"{path}: is a file, not a diffusers folder. A checkpoint of Stable Diffusion becomes one by 'adpm convert FILE FOLDER'."
        : $"{path}: there is no such folder. Check the path.");

    /// <summary>Loads the network as a <see cref="UNet2DModel"/>, on the CPU and in evaluation mode.</summary>
    /// <param name="dtype">Dtype of its weights, in which they are read. Default: float32.</param>
    /// <returns>The network, owned by the caller; its parameters require grad.</returns>
    /// <exception cref="ModelConfigException">The configuration is missing or for another class.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit.</exception>
    public UNet2DModel LoadUNet2D(ScalarType dtype = ScalarType.Float32) => Fill(UNet2DConfig.Read(System.IO.Path.Combine(UnetFolder, ConfigFile)), c => new UNet2DModel(c), dtype);

    /// <summary>Loads the network as a <see cref="UNet2DConditionModel"/>, on the CPU and in evaluation mode.</summary>
    /// <inheritdoc cref="LoadUNet2D" path="/param"/>
    /// <inheritdoc cref="LoadUNet2D" path="/returns"/>
    /// <inheritdoc cref="LoadUNet2D" path="/exception"/>
    public UNet2DConditionModel LoadUNet2DCondition(ScalarType dtype = ScalarType.Float32) => Fill(UNet2DConditionConfig.Read(System.IO.Path.Combine(UnetFolder, ConfigFile)), c => new UNet2DConditionModel(c), dtype);

    /// <summary>The schedule the network was trained on.</summary>
    /// <exception cref="ModelConfigException">The folder has none, or it is malformed or not supported.</exception>
    public SchedulerConfig ReadScheduler() => SchedulerConfig.Read(SchedulerConfigPath
        ?? throw new ModelConfigException($"{Path}: holds no scheduler/{SchedulerFile}. Add the file that belongs to the model, or name a schedule in the experiment."));

    /// <summary>Writes a pipeline's folder with an unconditional or class-conditional network; diffusers' <c>DDPMPipeline</c> and <c>DDIMPipeline</c> have this layout.</summary>
    /// <param name="path">The folder; made when missing.</param>
    /// <param name="model">The network.</param>
    /// <param name="scheduler">The schedule the network was trained on.</param>
    public static void Save(string path, UNet2DModel model, SchedulerConfig scheduler)
    {
        model.Config.Write(System.IO.Path.Combine(path, "unet", ConfigFile));
        ModuleWeights.Save(model, System.IO.Path.Combine(path, "unet", WeightsFile));
        scheduler.Write(System.IO.Path.Combine(path, "scheduler", SchedulerFile));
        ModelConfig.Write(System.IO.Path.Combine(path, "model_index.json"), new JsonObject
        {
            ["_class_name"] = "DDIMPipeline",
            ["scheduler"] = new JsonArray("diffusers", scheduler.ClassName),
            ["unet"] = new JsonArray("diffusers", nameof(UNet2DModel)),
        });
    }

    /// <summary>Writes the network of a conditional pipeline and its scheduler. The index stays with whoever has the pipeline's other parts.</summary>
    /// <inheritdoc cref="Save(string, UNet2DModel, SchedulerConfig)" path="/param"/>
    public static void Save(string path, UNet2DConditionModel model, SchedulerConfig scheduler)
    {
        model.Config.Write(System.IO.Path.Combine(path, "unet", ConfigFile));
        ModuleWeights.Save(model, System.IO.Path.Combine(path, "unet", WeightsFile));
        scheduler.Write(System.IO.Path.Combine(path, "scheduler", SchedulerFile));
    }

    /// <summary>The file, or the index, with the network's weights.</summary>
    /// <exception cref="SafetensorsException">There is none.</exception>
    public string FindWeights() => WeightFiles.Find(UnetFolder, "diffusion_pytorch_model");

    private T Fill<TConfig, T>(TConfig config, Func<TConfig, T> make, ScalarType dtype)
        // Files written before diffusers 0.12 name the attention of UNet2DModel differently.
        where T : nn.Module => ModuleWeights.Loaded(() => make(config), FindWeights(), AttentionNames.Current, dtype);
}
