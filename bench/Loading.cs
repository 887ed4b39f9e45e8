using System.Diagnostics;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>A model of Stable Diffusion 1.5's size in float16, as a folder and as one file: the time and the memory of loading it beside those of reading its bytes.</summary>
internal static class Loading
{
    private const int Rounds = 7;

    public static void Run(string folder)
    {
        var tokenizer = ClipTokenizer.Load(Path.Combine("examples", "models", "shapes-sd", "tokenizer"));
        // Released files hold the autoencoder in float16, too, and interfaces run it so.
        var config = StableDiffusionConfig.Sd1 with { Autoencoder = StableDiffusionConfig.Sd1.Autoencoder with { ForceUpcast = false } };
        var (diffusers, single) = (Path.Combine(folder, "sd15"), Path.Combine(folder, "sd15.safetensors"));
        if (!File.Exists(single))
        {
            using var model = Filled(config, tokenizer);
            StableDiffusionFolder.Save(diffusers, model);
            SingleFileCheckpoint.Save(single, model);
        }

        Console.WriteLine("| form | bytes of weights | read, s | loaded, s | ratio | peak above before, of the file |");
        Console.WriteLine("|---|---|---|---|---|---|");
        Row("diffusers folder", Directory.GetFiles(diffusers, "*.safetensors", SearchOption.AllDirectories), () => StableDiffusionFolder.Open(diffusers).Load(dtype: ScalarType.Float16));
        Row("single file", [single], () => SingleFileCheckpoint.Load(single, [tokenizer], config, ScalarType.Float16));
    }

    private static void Row(string name, string[] files, Func<StableDiffusionModel> load)
    {
        var bytes = files.Sum(file => new FileInfo(file).Length);
        var (reading, loading, peak) = (double.MaxValue, double.MaxValue, 0L);
        for (var round = 0; round < Rounds; round++)
        {
            var clock = Stopwatch.StartNew();
            // Into memory that stays, as weights' memory does: a copy into the same megabyte over and over would cost a fifth of that.
            using (NewDisposeScope())
            {
                foreach (var file in files)
                    Read(file);
                reading = Math.Min(reading, clock.Elapsed.TotalSeconds);
            }

            GC.Collect();
            GC.WaitForPendingFinalizers();
            var before = Mark(reset: true);
            clock.Restart();
            using var model = load();
            loading = Math.Min(loading, clock.Elapsed.TotalSeconds);
            // Later rounds find the memory of those before.
            peak = round == 0 ? Mark(reset: false) - before : peak;
        }

        Console.WriteLine($"| {name} | {bytes:n0} | {reading:f2} | {loading:f2} | {loading / reading:f2} | {(double)peak / bytes:f2} |");
    }

    private static void Read(string path)
    {
        using var file = File.OpenHandle(path);
        const int Piece = 64 << 20;
        for (var at = 0L; ;)
        {
            var memory = empty(Piece, dtype: ScalarType.Byte);
            var read = RandomAccess.Read(file, memory.bytes, at);
            GC.KeepAlive(memory);
            if (read == 0)
                return;
            at += read;
        }
    }

    private static StableDiffusionModel Filled(StableDiffusionConfig config, ClipTokenizer tokenizer)
    {
        using var frozen = no_grad();
        return new([tokenizer], [.. config.TextEncoders.Select(c => Fill(new ClipTextModel(c)))], Fill(new UNet2DConditionModel(config.Unet)), Fill(new AutoencoderKL(config.Autoencoder)), config.Scheduler);

        static T Fill<T>(T network)
            where T : nn.Module
        {
            network.to(ScalarType.Float16);
            return network;
        }
    }

    private static long Mark(bool reset)
    {
        if (reset)
            File.WriteAllText("/proc/self/clear_refs", "5");
        return 1024 * long.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]);
    }
}
