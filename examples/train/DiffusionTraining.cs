using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Trains a class-conditional noise predictor; one class beyond the data's is "no class", for guidance.</summary>
internal sealed class DiffusionTraining : IDisposable
{
    private const double Dropped = 0.12;
    private const double EmaDecay = 0.999;
    private const double SnrCap = 5;
    private readonly ImageSet _data;
    private readonly UNet2DModel _model;
    private readonly Dictionary<string, Tensor> _average;
    private readonly AdamW _optimizer;
    private readonly double _rate;
    private readonly int _iterations;
    private readonly NoiseTable _noise = new();
    private readonly int _batch;
    private readonly int _seed;

    private DiffusionTraining(ImageSet data, UNet2DConfig config, double rate, int iterations, int batch, int seed)
    {
        (_data, _rate, _iterations, _batch, _seed) = (data, rate, iterations, batch, seed);
        manual_seed(seed);
        _model = new UNet2DModel(config);
        _average = _model.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
        _optimizer = new AdamW(_model.named_parameters().ToDictionary(p => p.name, p => p.parameter), 1e-4);
    }

    public static void Run(string data, string output, string checkpoint, int[] channels, int layers, int iterations, int batch, double rate, int seed, int every, string curve)
    {
        var set = ImageSet.Read(data).Train;
        var config = Config(set.Size, channels, layers);
        using var training = new DiffusionTraining(set, config, rate, iterations, batch, seed);
        var start = training.Resume(checkpoint);
        var progress = new Progress(curve, "iteration,loss", iterations);
        Console.Error.WriteLine($"{training._model.parameters().Sum(p => p.numel())} parameters, {set.Count} images, from iteration {start}");
        double loss = double.NaN;
        for (var iteration = start; iteration < iterations; iteration++)
        {
            double now;
            using (NewDisposeScope())
                now = training.Step(iteration);
            loss = double.IsNaN(loss) ? now : loss + 0.02 * (now - loss);
            if ((iteration + 1) % 50 == 0)
                progress.Report(iteration + 1, ("loss", loss));
            if ((iteration + 1) % every == 0 || iteration + 1 == iterations)
            {
                training.Save(checkpoint, iteration + 1);
                training.Export(output);
            }
        }

        Console.WriteLine($"{output}: {iterations} iterations of {batch} images, loss {loss:f4}, {progress.Minutes:f1} minutes");
    }

    private static UNet2DConfig Config(int size, int[] channels, int layers)
    {
        var stages = channels.Length;
        return new UNet2DConfig
        {
            SampleSize = size,
            InChannels = 1,
            OutChannels = 1,
            BlockOutChannels = channels,
            LayersPerBlock = layers,
            DownBlockTypes = [.. Enumerable.Range(0, stages).Select(i => i == stages - 1 ? "AttnDownBlock2D" : "DownBlock2D")],
            UpBlockTypes = [.. Enumerable.Range(0, stages).Select(i => i == 0 ? "AttnUpBlock2D" : "UpBlock2D")],
            AttentionHeadDim = 16,
            NormNumGroups = 8,
            NumClassEmbeds = 11,
        };
    }

    private double Step(int iteration)
    {
        using var generator = new Generator((ulong)(_seed * 1_000_003L + iteration));
        var places = randint(0, _data.Count, [_batch], generator: generator, dtype: int64).data<long>().ToArray();
        var (x0, labels) = _data.Batch(places);
        var kept = rand([_batch], generator: generator).ge(Scalars.Dropped);
        labels = where(kept, labels, full_like(labels, Scalars.NoClass));
        var t = randint(0, NoiseTable.Steps, [_batch], generator: generator, dtype: int64);
        var eps = randn(x0.shape, generator: generator);
        var (alpha, sigma) = (_noise.Alpha.index_select(0, t).reshape(-1, 1, 1, 1), _noise.Sigma.index_select(0, t).reshape(-1, 1, 1, 1));
        var predicted = _model.call(x0.mul(alpha).add(eps.mul(sigma), Scalars.One), t, labels);
        var ratio = alpha.div(sigma);
        var snr = ratio.mul(ratio);
        // Hang et al. (2023), min-SNR weighting: easy, nearly clean samples do not outweigh the others.
        var weight = snr.clamp(max: Scalars.SnrCap).div(snr);
        var error = predicted.sub(eps);
        var loss = error.mul(error).mul(weight).mean();
        loss.backward();
        _optimizer.Step(iteration, _rate * LearningRate.At(iteration, _iterations, Math.Min(200, _iterations / 10)));
        Average(iteration);
        return loss.ToDouble();
    }

    private void Average(int iteration)
    {
        using var frozen = no_grad();
        // A young average forgets its random beginning faster.
        var decay = Math.Min(EmaDecay, (1.0 + iteration) / (10.0 + iteration));
        Scalar keep = decay, pull = 1 - decay;
        foreach (var (name, value) in _model.state_dict())
            _average[name].mul_(keep).add_(value, pull);
        GC.KeepAlive((keep, pull));
    }

    private int Resume(string folder)
    {
        // Cut between the two moves of a swap: the new folder is whole, since progress.json is written last.
        if (!Directory.Exists(folder) && File.Exists(Path.Combine(folder + ".new", "progress.json")))
            Directory.Move(folder + ".new", folder);
        if (!File.Exists(Path.Combine(folder, "progress.json")))
            return 0;
        ModuleWeights.Load(_model, Path.Combine(folder, "model.safetensors"));
        using var average = SafetensorsFile.Open(Path.Combine(folder, "average.safetensors"));
        foreach (var (name, tensor) in _average)
        {
            using var stored = average.Read(name);
            tensor.copy_(stored);
        }

        _optimizer.Load(Path.Combine(folder, "optimizer.safetensors"));
        return (int)JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "progress.json")))!["iteration"]!;
    }

    private void Save(string folder, int iteration)
    {
        // The whole folder is made beside its place and swapped in, so that a cut never leaves half a checkpoint.
        var (staged, old) = (folder + ".new", folder + ".old");
        if (Directory.Exists(staged))
            Directory.Delete(staged, true);
        Directory.CreateDirectory(staged);
        ModuleWeights.Save(_model, Path.Combine(staged, "model.safetensors"));
        SafetensorsWriter.Write(Path.Combine(staged, "average.safetensors"), _average);
        _optimizer.Save(Path.Combine(staged, "optimizer.safetensors"));
        File.WriteAllText(Path.Combine(staged, "progress.json"), JsonSerializer.Serialize(new { iteration }));
        if (Directory.Exists(old))
            Directory.Delete(old, true);
        if (Directory.Exists(folder))
            Directory.Move(folder, old);
        Directory.Move(staged, folder);
    }

    private void Export(string output)
    {
        using var averaged = new UNet2DModel(_model.Config);
        using (no_grad())
        {
            foreach (var (name, value) in averaged.state_dict())
                value.copy_(_average[name]);
        }

        DiffusersFolder.Save(output, averaged, NoiseTable.Schedule);
    }

    public void Dispose()
    {
        _optimizer.Dispose();
        _model.Dispose();
    }

    private static class Scalars
    {
        public static readonly Scalar One = 1.0;
        public static readonly Scalar SnrCap = DiffusionTraining.SnrCap;
        public static readonly Scalar Dropped = DiffusionTraining.Dropped;
        public static readonly Scalar NoClass = 10;
    }
}
