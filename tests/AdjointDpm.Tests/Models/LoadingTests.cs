using System.Diagnostics;
using System.Globalization;
using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Weights are read into the memory that they stay in: no network of random numbers before them, nothing twice.</summary>
[Collection(nameof(Alone))]
public sealed class LoadingTests
{
    [Fact]
    public void Half_OfManyMegabytes_TakesTheMemoryOfItsFile_AndTheTimeOfReadingIt()
    {
        using var folder = new TemporaryFolder();
        // Stable Diffusion 1.5's blocks at half their width: a quarter of its numbers.
        var config = StableDiffusionConfig.Sd1.Unet with { BlockOutChannels = [160, 320, 640, 640] };
        var path = folder["diffusion_pytorch_model.safetensors"];
        using (var shapes = Layers.Blank(ScalarType.Float16, () => new UNet2DConditionModel(config)))
            SparseFile.Write(path, shapes.state_dict().ToDictionary(p => p.Key, p => p.Value.shape));
        config.Write(folder["config.json"]);
        var bytes = new FileInfo(path).Length;

        var clock = Stopwatch.StartNew();
        using (var file = File.OpenRead(path))
            file.CopyTo(Stream.Null, 1 << 20);
        var reading = clock.Elapsed;
        GC.Collect();
        var before = Peak(reset: true);
        clock.Restart();
        using var unet = Layers.Blank(ScalarType.Float16, () => new UNet2DConditionModel(config));
        ModuleWeights.Load(unet, path);
        unet.to(ScalarType.Float16);
        var (took, grown) = (clock.Elapsed, Peak(reset: false) - before);
        Assert.All(unet.parameters(), p => Assert.True(p.dtype == ScalarType.Float16 && p.device_type == DeviceType.CPU));
        TestContext.Current.SendDiagnosticMessage(string.Create(CultureInfo.InvariantCulture, $"file {bytes / 1e6:f0} MB read in {reading.TotalSeconds:f2} s, loaded in {took.TotalSeconds:f2} s with {grown / 1e6:f0} MB more at the most ({(double)grown / bytes:f2} of the file)"));
        if (OperatingSystem.IsLinux())
            Assert.InRange(grown, bytes / 2, (long)(1.3 * bytes));
    }

    [Fact]
    public void Blank_NetworkOfEveryKind_IsFilledWhole()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make("SDXL");
        StableDiffusionFolder.Save(folder["f"], saved);
        using var loaded = StableDiffusionFolder.Open(folder["f"]).Load(dtype: ScalarType.BFloat16);
        foreach (var (a, b) in StableDiffusionFolderTests.Networks(saved).Zip(StableDiffusionFolderTests.Networks(loaded)))
            TinyModels.AllWeights(a, b, (x, y) => x.to(bfloat16).Equals(y));
        // A file that does not fit leaves an error, not a network without memory.
        File.Delete(Path.Combine(folder["f"], "vae", "diffusion_pytorch_model.safetensors"));
        Assert.Throws<SafetensorsException>(() => StableDiffusionFolder.Open(folder["f"]).Load());
    }

    // Greatest resident memory of the process since the last reset, in bytes.
    private static long Peak(bool reset)
    {
        if (!OperatingSystem.IsLinux())
            return 0;
        if (reset)
            File.WriteAllText("/proc/self/clear_refs", "5");
        var line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return 1024 * long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }
}
