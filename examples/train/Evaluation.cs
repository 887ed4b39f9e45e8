using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using SkiaSharp;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Test accuracies, and how many samples of a model two classifiers recognise.</summary>
internal static class Evaluation
{
    public static double Accuracy(ImageClassifier classifier, ImageSet test)
    {
        classifier.eval();
        using var frozen = no_grad();
        long right = 0;
        foreach (var chunk in Enumerable.Range(0, test.Count).Select(i => (long)i).Chunk(500))
        {
            using var scope = NewDisposeScope();
            var (images, labels) = test.Batch(chunk);
            right += classifier.call(images).argmax(1).eq(labels).sum().ToInt64();
        }

        return (double)right / test.Count;
    }

    public static void Run(string model, string[] classifiers, string? data, int perClass, int steps, double guidance, int seed, string? sheet)
    {
        var judges = classifiers.Select(c => (Name: c, Net: ClassifierFolder.Load(c))).ToList();
        var sets = data is null ? null : ((ImageSet Train, ImageSet Test)?)ImageSet.Read(data);
        if (sets is var (_, test))
        {
            foreach (var (name, net) in judges)
                Console.WriteLine($"{name}: test accuracy {Accuracy(net, test):p2} on {test.Count} images");
        }

        using var scope = NewDisposeScope();
        var labels = arange(10, dtype: int64).repeat_interleave(perClass);
        using var samples = Sample(DiffusersFolder.Open(model), labels, steps, guidance, seed);
        foreach (var (name, net) in judges)
        {
            using var frozen = no_grad();
            var said = net.call(samples).argmax(1);
            var right = said.eq(labels).to(float32).reshape(10, perClass).mean([1]).data<float>().ToArray();
            Console.WriteLine($"{name}: recognises {right.Average():p1} of {10 * perClass} samples (DDIM {steps}, guidance {guidance}); by class {string.Join(' ', right.Select(r => r.ToString("p0")))}");
        }

        if (sets is var (train, held))
            Console.WriteLine($"Distance to the nearest training image, RMS over pixels, median: samples {Nearest(samples, train):f3}, held-out images {Nearest(held.Batch([.. Enumerable.Range(0, Math.Min(500, held.Count)).Select(i => (long)i)]).Images, train):f3}");
        if (sheet is not null)
            WriteSheet(samples, perClass, sheet);
    }

    // Samples as near to the training images as those are to themselves would be copies.
    private static double Nearest(Tensor images, ImageSet train)
    {
        using var scope = NewDisposeScope();
        var all = tensor(train.Pixels, [train.Count, train.Size * train.Size]);
        return cdist(images.flatten(1), all).amin([1]).median().ToDouble() / train.Size;
    }

    private static Tensor Sample(DiffusersFolder folder, Tensor labels, int steps, double guidance, int seed)
    {
        using var unet = folder.LoadUNet2D();
        var size = unet.Config.SampleSize!.Values[0];
        using var generator = new Generator((ulong)seed);
        using var result = Sampling.Sample(new SampleRequest
        {
            Field = unet.Field(labels, guidance),
            Noise = randn([labels.shape[0], 1, size, size], generator: generator),
            Grid = folder.ReadScheduler().Grid(steps),
        });
        return result.Sample.clone();
    }

    /// <summary>A row for each class, ten samples in it, three times enlarged.</summary>
    private static void WriteSheet(Tensor samples, int perClass, string path)
    {
        var size = (int)samples.shape[2];
        var (columns, zoom) = (Math.Min(10, perClass), size >= 28 ? 2 : 6);
        var cell = size * zoom + 2;
        using var bitmap = new SKBitmap(columns * cell, 10 * cell, SKColorType.Gray8, SKAlphaType.Opaque);
        var values = samples.clamp(-1, 1).contiguous().data<float>().ToArray();
        for (var row = 0; row < 10; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                var start = (row * perClass + column) * size * size;
                for (var y = 0; y < size * zoom; y++)
                {
                    for (var x = 0; x < size * zoom; x++)
                    {
                        var v = (byte)Math.Round((values[start + y / zoom * size + x / zoom] + 1) * 127.5);
                        bitmap.SetPixel(column * cell + x, row * cell + y, new SKColor(v, v, v));
                    }
                }
            }
        }

        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        using var file = File.Create(path);
        bitmap.Encode(file, SKEncodedImageFormat.Png, 100);
    }
}
