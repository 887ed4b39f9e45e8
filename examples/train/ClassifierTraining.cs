using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Trains a classifier with small random shifts, and keeps the last epoch's weights.</summary>
internal static class ClassifierTraining
{
    private const int BatchSize = 64;

    public static void Run(string data, string output, string architecture, int epochs, double rate, int seed, string curve)
    {
        var (train, test) = ImageSet.Read(data);
        manual_seed(seed);
        using var classifier = Build(architecture, train.Size);
        using var optimizer = optim.AdamW(classifier.parameters(), lr: rate, weight_decay: 1e-2);
        var perEpoch = train.Count / BatchSize;
        var total = epochs * perEpoch;
        var progress = new Progress(curve, "iteration,loss,test_accuracy", total);
        double loss = 0;
        for (var iteration = 0; iteration < total; iteration++)
        {
            SetRate(optimizer, rate * LearningRate.At(iteration, total, total / 20 + 1));
            using (NewDisposeScope())
                loss += 0.02 * (Step(classifier, optimizer, train, seed, iteration) - loss);
            if ((iteration + 1) % perEpoch == 0)
                progress.Report(iteration + 1, ("loss", loss), ("test", Evaluation.Accuracy(classifier, test)));
        }

        ClassifierFolder.Save(classifier, output);
        Console.WriteLine($"{output}: test accuracy {Evaluation.Accuracy(classifier, test):p2} after {epochs} epochs, {progress.Minutes:f1} minutes, {classifier.parameters().Sum(p => p.numel())} parameters");
    }

    public static void SetRate(optim.Optimizer optimizer, double rate)
    {
        foreach (var group in optimizer.ParamGroups)
            group.LearningRate = rate;
    }

    private static ImageClassifier Build(string architecture, int size) => (architecture, size) switch
    {
        ("conv", 28) => new ConvClassifier(new ConvClassifierConfig()),
        ("conv", _) => new ConvClassifier(new ConvClassifierConfig { SampleSize = size, Channels = [32, 64] }),
        ("residual", 28) => new ResidualClassifier(new ResidualClassifierConfig()),
        ("residual", _) => new ResidualClassifier(new ResidualClassifierConfig { StemStride = 1, Channels = [16, 32] }),
        _ => throw new ArgumentException($"Architecture '{architecture}' is not known. Known: conv, residual."),
    };

    private static double Step(ImageClassifier classifier, optim.Optimizer optimizer, ImageSet train, int seed, int iteration)
    {
        classifier.train();
        // Everything random about an iteration comes from its own generator, so that a run can go on from any of them.
        using var generator = new Generator((ulong)(seed * 1_000_003L + iteration));
        var places = randint(0, train.Count, [BatchSize], generator: generator, dtype: int64).data<long>().ToArray();
        var (images, labels) = train.Batch(places);
        images = Shift(images, train.Size >= 28 ? 2 : 1, generator);
        var loss = nn.functional.cross_entropy(classifier.call(images), labels);
        optimizer.zero_grad();
        loss.backward();
        optimizer.step();
        return loss.ToDouble();
    }

    // The whole batch moves alike: cheap, and over many batches every shift is seen.
    private static Tensor Shift(Tensor images, int most, Generator generator)
    {
        var by = randint(0, 2 * most + 1, [2], generator: generator, dtype: int64).data<long>().ToArray();
        var size = images.shape[2];
        return nn.functional.pad(images, [most, most, most, most], PaddingModes.Constant, -1).narrow(2, by[0], size).narrow(3, by[1], size);
    }
}

/// <summary>A short linear rise, then half a cosine down to zero.</summary>
internal static class LearningRate
{
    public static double At(int iteration, int total, int warmup) =>
        Math.Min(1.0, (iteration + 1.0) / warmup) * 0.5 * (1 + Math.Cos(Math.PI * iteration / total));
}
