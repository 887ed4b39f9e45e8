using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>The discrete adjoint against PyTorch: torchdiffeq's odeint_adjoint, plain backprop, and a checkpoint a step. One UNet, weights, grid and loss; both processes alive at once, and one run of each in turn.</summary>
/// <remarks>PYTHON names a Python with PyTorch (default: python3), TORCHDIFFEQ the folder of a copy of torchdiffeq that is not installed.</remarks>
internal static class SideBySide
{
    private const int Rounds = 5;
    private static readonly (string Name, string Title)[] Theirs = [("adjoint", "torchdiffeq `odeint_adjoint`"), ("backprop", "PyTorch, plain backprop"), ("checkpoint", "PyTorch, a checkpoint a step")];

    public static void Run(int[] stepCounts, int size)
    {
        using var scope = NewDisposeScope();
        random.manual_seed(0);
        using var unet = new UNet2DModel(new()
        {
            InChannels = 4,
            OutChannels = 4,
            BlockOutChannels = [64, 128],
            DownBlockTypes = ["DownBlock2D", "AttnDownBlock2D"],
            UpBlockTypes = ["AttnUpBlock2D", "UpBlock2D"],
            AttentionHeadDim = 32,
        });
        unet.eval();
        var noise = CounterNoise.Normal(new(2), [1, 4, size, size]);
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        try
        {
            var tensors = unet.state_dict();
            tensors["x_T"] = noise;
            SafetensorsWriter.Write(Path.Combine(folder, "weights.safetensors"), tensors);
            using var torch = Start(folder);
            var greeting = torch?.StandardOutput.ReadLine();
            if (greeting is null || !greeting.StartsWith("ready", StringComparison.Ordinal))
            {
                Console.WriteLine($"Skipped: {greeting ?? "no Python was found; name one that has PyTorch in PYTHON"}");
                return;
            }

            Console.WriteLine($"DDIM on a UNet of {unet.parameters().Sum(p => p.numel()) / 1e6:f2} million weights, 1 x 4 x {size} x {size}, float32, 1 thread; gradient of x_T and all weights. AdjointDpm on libtorch 2.10; {greeting["ready: ".Length..]}.");
            Console.WriteLine($"Processor time, median of {Rounds} rounds (least to most) after warming up, one run of each in turn; ratios are ours to theirs, median (least to most) of the rounds'. Errors are against plain backprop in float64, in PyTorch.");
            Console.WriteLine();
            Console.WriteLine("| operator alone | ms, ours | ms, PyTorch | ratio |");
            Console.WriteLine("|---|---|---|---|");
            foreach (var (name, title) in Operators.All)
                Compare(name, title, torch!);
            Console.WriteLine();
            Console.WriteLine("| steps | gradient | seconds | time, ours to it | peak MB | memory, ours to it | x_T: 1 − cosine | x_T: norm ratio | weights: 1 − cosine | weights: norm ratio |");
            Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|");
            foreach (var steps in stepCounts)
                Compare(NoiseField.From((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float32), null)).With("unet", unet), noise, steps, folder, torch!);
            torch!.StandardInput.Close();
            torch.WaitForExit();
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Compare(NoiseField field, Tensor noise, int steps, string folder, Process torch)
    {
        var grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps);
        File.WriteAllText(Path.Combine(folder, "grid.json"), JsonSerializer.Serialize(grid.Points.Select(p => new[] { p.Rho, p.Time, p.Level.Alpha })));
        Ask<int>(torch, "grid grid.json");
        var request = new SampleRequest { Field = field, Noise = noise, Grid = grid };
        var clock = new CpuClock();

        using (var result = Sampling.Differentiate(request, Loss))
        {
            var gradients = result.Inputs.ToDictionary(p => p.Key["unet.".Length..], p => p.Value);
            gradients["x_T"] = result.Noise;
            SafetensorsWriter.Write(Path.Combine(folder, "ours.safetensors"), gradients);
        }

        // The errors first: they warm PyTorch's side up. Ours takes a few runs until the runtime has compiled what is called often.
        for (var round = 0; round < Rounds; round++)
            Ours(request);
        var errors = Theirs.Select(t => Ask<double[]>(torch, $"gradient {t.Name}")).Prepend(Ask<double[]>(torch, "gradient ours")).ToArray();
        var seconds = new double[Rounds][];
        for (var round = 0; round < Rounds; round++)
        {
            var start = clock.GetTimestamp();
            Ours(request);
            seconds[round] = [clock.GetElapsedTime(start).TotalSeconds, .. Theirs.Select(t => Ask<double>(torch, $"time {t.Name}"))];
        }

        double[] peaks = [HighWater.Supported ? Enumerable.Range(0, 2).Min(_ => HighWater.Of(() => Ours(request with { Progress = HighWater.Collecting }))) : double.NaN, .. Theirs.Select(t => Ask<double>(torch, $"memory {t.Name}"))];
        for (var i = 0; i < errors.Length; i++)
        {
            var (own, ratios) = (seconds.Select(s => s[i]).Order().ToArray(), seconds.Select(s => s[0] / s[i]).Order().ToArray());
            var title = i == 0 ? "ours, `Discrete`" : Theirs[i - 1].Title;
            Console.WriteLine($"| {steps} | {title} | {Spread(own)} | {(i == 0 ? "" : Spread(ratios))} | {peaks[i] / 1e6:f1} | {(i == 0 ? "" : $"{peaks[0] / peaks[i]:f2}")} | {errors[i][0]:0.0e+0} | {errors[i][1]:f6} | {errors[i][2]:0.0e+0} | {errors[i][3]:f6} |");
        }
    }

    private static void Compare(string name, string title, Process torch)
    {
        var clock = new CpuClock();
        Operators.Seconds(name, clock);
        var rounds = Enumerable.Range(0, Rounds).Select(_ => (Ours: Operators.Seconds(name, clock), Theirs: Ask<double>(torch, $"operator {name}"))).ToArray();
        Console.WriteLine($"| {title} | {1e3 * Median(rounds.Select(r => r.Ours)):f2} | {1e3 * Median(rounds.Select(r => r.Theirs)):f2} | {Spread([.. rounds.Select(r => r.Ours / r.Theirs).Order()])} |");

        static double Median(IEnumerable<double> values) => values.Order().ElementAt(Rounds / 2);
    }

    private static string Spread(double[] ordered) => $"{ordered[ordered.Length / 2]:f2} ({ordered[0]:f2} to {ordered[^1]:f2})";

    private static Tensor Loss(Tensor x) => x.mul(x).mean();

    private static void Ours(SampleRequest request)
    {
        using var scope = NewDisposeScope();
        Sampling.Differentiate(request, Loss).Dispose();
    }

    private static Process? Start(string folder)
    {
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("PYTHON") ?? "python3", [Path.Combine(Path.GetDirectoryName(Here())!, "side_by_side.py"), folder]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        // One thread, and none that waits by spinning, on both sides.
        start.Environment["OMP_NUM_THREADS"] = start.Environment["OPENBLAS_NUM_THREADS"] = "1";
        try
        {
            return Process.Start(start);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static T Ask<T>(Process torch, string command)
    {
        torch.StandardInput.WriteLine(command);
        torch.StandardInput.Flush();
        var answer = torch.StandardOutput.ReadLine() ?? throw new InvalidOperationException($"PyTorch's side ended at '{command}'; its message is above.");
        return JsonSerializer.Deserialize<T>(answer)!;
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
