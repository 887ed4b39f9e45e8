using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Trains a Stable Diffusion 1 of every released tensor's name and a thousandth of its size on drawings of shapes: first the autoencoder, then text encoder and diffusion network together.</summary>
internal static class TextToImageTraining
{
    private const double EmaDecay = 0.998, Dropped = 0.12, Divergence = 1e-4;
    private static readonly SchedulerConfig Scheduler = new() { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, StepsOffset = 1, SetAlphaToOne = false, TimestepSpacing = "leading", ClipSample = false };

    public static void Run(string tokenizer, string output, int pictures, int iterations, int batch, double rate, int seed, string curve)
    {
        manual_seed(seed);
        var words = ClipTokenizer.Load(tokenizer);
        using var autoencoder = new AutoencoderKL(new()
        {
            BlockOutChannels = [8, 16, 16, 16],
            DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)],
            UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)],
            LayersPerBlock = 2,
            NormNumGroups = 4,
            SampleSize = Shapes.Size,
        });
        TrainAutoencoder(autoencoder, pictures, batch, rate, seed, curve);
        var config = autoencoder.Config with { ScalingFactor = Math.Round(1 / Spread(autoencoder, seed), 5) };
        var scaled = new AutoencoderKL(config);
        Copy(autoencoder.state_dict(), scaled);

        var text = new ClipTextModel(new() { VocabSize = words.VocabularySize, HiddenSize = 32, IntermediateSize = 128, NumHiddenLayers = 12, NumAttentionHeads = 4, ProjectionDim = 32, EosTokenId = 2 });
        var unet = new UNet2DConditionModel(new() { SampleSize = Shapes.Size / config.Reduction, BlockOutChannels = [16, 32, 32, 32], CrossAttentionDim = 32, AttentionHeadDim = 4, NormNumGroups = 8 });
        using var model = new StableDiffusionModel([words], [text], unet, scaled, Scheduler);
        TrainNetworks(model, iterations, batch, rate, seed, curve);
        foreach (var network in new nn.Module[] { text, unet, scaled })
        {
            network.eval();
            network.to(ScalarType.Float16);
        }

        StableDiffusionFolder.Save(output, model);
        WriteSheet(StableDiffusionFolder.Open(output), Path.Combine(output, "samples.png"), seed);
    }

    private static void TrainAutoencoder(AutoencoderKL autoencoder, int iterations, int batch, double rate, int seed, string curve)
    {
        using var optimizer = new AdamW(autoencoder.named_parameters().ToDictionary(p => p.name, p => p.parameter), 1e-4);
        var progress = new Progress(curve, "iteration,loss", iterations);
        var loss = double.NaN;
        for (var iteration = 0; iteration < iterations; iteration++)
        {
            using var scope = NewDisposeScope();
            using var generator = new Generator((ulong)(seed * 1_000_003L + iteration));
            var (images, _) = Shapes.Draw(batch, new Random(seed * 7919 + iteration));
            var latent = autoencoder.Encode(images);
            var error = autoencoder.Decode(latent.Sample(randn(latent.Mean.shape, generator: generator))).sub(images);
            // Kingma and Welling (2014): the divergence to a standard normal, lightly weighted as in latent diffusion.
            var divergence = latent.Mean.mul(latent.Mean).add(latent.LogVariance.exp(), Scalars.One).sub(latent.LogVariance).mean();
            var whole = error.mul(error).mean().add(divergence, Scalars.Divergence);
            whole.backward();
            optimizer.Step(iteration, rate * LearningRate.At(iteration, iterations, 100));
            loss = Smooth(loss, whole.ToDouble());
            if ((iteration + 1) % 50 == 0)
                progress.Report(iteration + 1, ("autoencoder", loss));
        }
    }

    /// <summary>Standard deviation of the latents, which the scaling factor undoes.</summary>
    private static double Spread(AutoencoderKL autoencoder, int seed)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        return autoencoder.Encode(Shapes.Draw(128, new Random(seed)).Images).Mean.std().ToDouble();
    }

    private static void TrainNetworks(StableDiffusionModel model, int iterations, int batch, double rate, int seed, string curve)
    {
        using var frozenParts = NewDisposeScope();
        var levels = Enumerable.Range(0, Scheduler.NumTrainTimesteps).Select(t => Scheduler.Schedule().At(t)).ToArray();
        var (alphas, sigmas) = (tensor(Array.ConvertAll(levels, l => (float)l.Alpha)), tensor(Array.ConvertAll(levels, l => (float)l.Sigma)));
        var trained = Named(model).ToDictionary(p => p.Name, p => p.Value);
        var average = trained.ToDictionary(p => p.Key, p => p.Value.detach().clone());
        using var optimizer = new AdamW(trained, 1e-4);
        var progress = new Progress(curve, "iteration,loss", iterations);
        Console.Error.WriteLine($"{trained.Values.Sum(p => p.numel())} parameters besides the autoencoder");
        var loss = double.NaN;
        for (var iteration = 0; iteration < iterations; iteration++)
        {
            using var scope = NewDisposeScope();
            using var generator = new Generator((ulong)(seed * 2_000_003L + iteration));
            var random = new Random(seed * 104_729 + iteration);
            var (images, captions) = Shapes.Draw(batch, random);
            Tensor latents;
            using (no_grad())
                latents = model.Autoencoder.EncodeMean(images);
            using var prompts = model.Encode([.. captions.Select(c => random.NextDouble() < Dropped ? "" : c)]);
            var t = randint(0, levels.Length, [batch], generator: generator, dtype: int64);
            var noise = randn(latents.shape, generator: generator);
            var (alpha, sigma) = (alphas.index_select(0, t).reshape(-1, 1, 1, 1), sigmas.index_select(0, t).reshape(-1, 1, 1, 1));
            var error = model.Unet.forward(latents.mul(alpha).add(noise.mul(sigma), Scalars.One), t, prompts.States).sub(noise);
            var whole = error.mul(error).mean();
            whole.backward();
            optimizer.Step(iteration, rate * LearningRate.At(iteration, iterations, 200));
            Average(average, trained, Math.Min(EmaDecay, (1.0 + iteration) / (10.0 + iteration)));
            loss = Smooth(loss, whole.ToDouble());
            if ((iteration + 1) % 50 == 0)
                progress.Report(iteration + 1, ("diffusion", loss));
        }

        using (no_grad())
        {
            foreach (var (name, value) in trained)
                value.copy_(average[name]);
        }
    }

    private static IEnumerable<(string Name, TorchSharp.Modules.Parameter Value)> Named(StableDiffusionModel model) =>
        new (string Name, nn.Module Network)[] { ("text.", model.TextEncoders[0]), ("unet.", model.Unet) }.SelectMany(n => n.Network.named_parameters().Select(p => (n.Name + p.name, p.parameter)));

    private static void Average(Dictionary<string, Tensor> average, Dictionary<string, TorchSharp.Modules.Parameter> trained, double decay)
    {
        using var frozen = no_grad();
        Scalar keep = decay, pull = 1 - decay;
        foreach (var (name, value) in trained)
            average[name].mul_(keep).add_(value, pull);
        GC.KeepAlive((keep, pull));
    }

    private static void Copy(Dictionary<string, Tensor> from, nn.Module to)
    {
        using var frozen = no_grad();
        foreach (var (name, value) in to.state_dict())
            value.copy_(from[name]);
    }

    private static double Smooth(double mean, double now) => double.IsNaN(mean) ? now : mean + 0.02 * (now - mean);

    /// <summary>One sample of every caption, four in a row.</summary>
    private static void WriteSheet(StableDiffusionFolder folder, string path, int seed)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        using var model = folder.Load();
        var captions = Shapes.Captions;
        using var prompts = model.Encode(captions);
        using var nothing = model.EncodeNothing(captions.Count);
        using var drawn = Sampling.Sample(model.Request(model.Field(prompts, nothing, 3), model.Noise(captions.Count, Shapes.Size, Shapes.Size, new NoiseKey((ulong)seed)), 20));
        const int Columns = 4;
        var pictures = model.Decode(drawn.Sample).reshape(captions.Count / Columns, Columns, 3, Shapes.Size, Shapes.Size);
        Picture.Write(path, pictures.permute(2, 0, 3, 1, 4).reshape(3, captions.Count / Columns * Shapes.Size, Columns * Shapes.Size));
    }

    private static class Scalars
    {
        public static readonly Scalar One = 1.0;
        public static readonly Scalar Divergence = TextToImageTraining.Divergence;
    }
}
