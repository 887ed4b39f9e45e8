using System.Globalization;
using AdjointDpm.Scoring;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What a classifier says of a folder of pictures, and how far they are from another folder's.</summary>
public static class SampleScores
{
    private const int Batch = 64, LeastForDistance = 20;

    private static readonly string[] Extensions = [".png", ".jpg", ".jpeg", ".webp"];

    /// <param name="request">What is asked.</param>
    /// <param name="telling">Told how far it is; null for nobody.</param>
    /// <exception cref="InvalidDataException">There are no pictures, or they do not fit each other or the classifier.</exception>
    public static SampleScore Run(ScoreRequest request, IProgress<ToolProgress>? telling = null)
    {
        NativeTorch.EnsureLoaded();
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        using var classifier = ClassifierFolder.Load(request.Classifier);
        classifier.eval();
        // A net of dense layers alone has no maps: it can recognise, and that is all.
        var layer = request.Layer ?? (classifier.Layers.Count > 0 ? classifier.Layers[^1] : null);
        if (layer is not null && !classifier.Layers.Contains(layer))
            throw new InvalidDataException($"'{request.Classifier}' has no layer '{layer}'. {(classifier.Layers.Count == 0 ? "None of its layers makes maps" : $"It has {string.Join(", ", classifier.Layers)}")}.");
        if (layer is null && request.Reference is not null)
            throw new InvalidDataException($"Distances are of the features of a layer that makes maps, and '{request.Classifier}' has none. Name a classifier with convolutions, or leave --reference out.");
        if (request.Label is { } wanted && (wanted < 0 || wanted >= classifier.Classes))
            throw new InvalidDataException($"--label is {wanted}, but '{request.Classifier}' has the classes 0 to {classifier.Classes - 1}.");

        var pictures = Pictures(request.Folder, request.Label, classifier.Classes);
        var (predicted, features) = Look(classifier, layer, pictures, telling);
        var labelled = pictures.Select((picture, i) => (picture.Label, Predicted: predicted[i])).Where(pair => pair.Label is not null).ToList();
        var right = labelled.Count(pair => pair.Label == pair.Predicted);
        var classes = features is null ? [] : pictures.Select((picture, i) => (Class: picture.Label ?? predicted[i], Index: (long)i)).GroupBy(pair => pair.Class).Where(group => group.Count() > 1).ToList();
        var score = new SampleScore
        {
            Samples = pictures.Count,
            Layer = layer ?? "",
            Labelled = labelled.Count,
            Recognised = right,
            Share = labelled.Count == 0 ? null : Interval((double)right / labelled.Count, WilsonInterval.Of(right, labelled.Count)),
            Diversity = classes.Count == 0 ? null : classes.Average(group => FeatureStatistics.Diversity(features!.index_select(0, tensor(group.Select(pair => pair.Index).ToArray())))),
            DiverseClasses = classes.Count,
            Predicted = [.. Enumerable.Range(0, classifier.Classes).Select(c => predicted.Count(p => p == c))],
        };
        if (request.Reference is null)
            return score;
        var others = Pictures(request.Reference, null, classifier.Classes);
        if (Math.Min(pictures.Count, others.Count) < LeastForDistance)
            throw new InvalidDataException($"Distances need at least {LeastForDistance} pictures in each folder, but there are {pictures.Count} and {others.Count}.");
        var (_, reference) = Look(classifier, layer, others, telling);
        telling?.Report(new("resampling distances", 0, 0));
        var frechet = FeatureStatistics.WithInterval(FeatureStatistics.FrechetDistance, features!, reference!);
        var kernel = FeatureStatistics.WithInterval(FeatureStatistics.KernelDistance, features!, reference!);
        return score with
        {
            ReferenceSamples = others.Count,
            FeatureLength = features!.shape[1],
            Frechet = Interval(frechet.Value, (Math.Max(0, frechet.Value - frechet.HalfWidth), frechet.Value + frechet.HalfWidth)),
            Kernel = Interval(kernel.Value, (kernel.Value - kernel.HalfWidth, kernel.Value + kernel.HalfWidth)),
        };
    }

    private static ScoreInterval Interval(double value, (double Low, double High) ends) => new(value, ends.Low, ends.High);

    /// <summary>Pictures of a folder; those in a folder below whose name is a number are to be of that class.</summary>
    private static List<(string Path, int? Label)> Pictures(string folder, int? label, int classes)
    {
        if (!Directory.Exists(folder))
            throw new DirectoryNotFoundException($"There is no folder '{folder}'.");
        var found = Of(folder, label).ToList();
        foreach (var below in Directory.GetDirectories(folder).Order(StringComparer.Ordinal))
        {
            if (!int.TryParse(Path.GetFileName(below), NumberStyles.None, CultureInfo.InvariantCulture, out var named))
                continue;
            if (named >= classes)
                throw new InvalidDataException($"'{below}' is named after a class that the classifier does not have; it has 0 to {classes - 1}.");
            found.AddRange(Of(below, label ?? named));
        }
        return found.Count > 0 ? found
            : throw new InvalidDataException($"'{folder}' holds no pictures ({string.Join(", ", Extensions)}), nor do folders in it that are named after classes, such as 3.");

        static IEnumerable<(string, int?)> Of(string place, int? label) =>
            Directory.GetFiles(place).Where(path => Extensions.Contains(Path.GetExtension(path).ToLowerInvariant())).Order(StringComparer.Ordinal).Select(path => (path, label));
    }

    /// <summary>Class and features of each picture, the means of a layer's maps; no features without a layer.</summary>
    private static (List<int> Predicted, Tensor? Features) Look(ImageClassifier classifier, string? layer, List<(string Path, int? Label)> pictures, IProgress<ToolProgress>? telling)
    {
        var (predicted, features) = (new List<int>(), new List<Tensor>());
        var channels = Channels(classifier, pictures[0].Path);
        long[]? size = null;
        foreach (var batch in pictures.Chunk(Batch))
        {
            telling?.Report(new("looking at pictures", predicted.Count, pictures.Count));
            using var scope = NewDisposeScope();
            var images = cat([.. batch.Select(picture =>
            {
                var image = ReferenceImage.Load(picture.Path, channels);
                size ??= image.shape;
                return size.SequenceEqual(image.shape) ? image
                    : throw new InvalidDataException($"'{picture.Path}' is {image.shape[3]} × {image.shape[2]} pixels, but '{pictures[0].Path}' is {size[3]} × {size[2]}. Pictures of one folder must be of one size.");
            })], 0).to(classifier.Dtype());
            predicted.AddRange(classifier.Logits(images).argmax(1).data<long>().Select(c => (int)c));
            if (layer is null)
                continue;
            var maps = classifier.Features(images)[layer].to(ScalarType.Float64);
            features.Add((maps.dim() == 4 ? maps.mean([2, 3]) : maps.flatten(1)).MoveToOuterDisposeScope());
        }
        return (predicted, layer is null ? null : cat(features, 0));
    }

    /// <summary>1 or 3, whichever the classifier takes.</summary>
    private static long Channels(ImageClassifier classifier, string path)
    {
        var (grey, colour) = (Try(1), Try(3));
        return grey is null ? 1 : colour is null ? 3
            : throw new InvalidDataException($"The classifier does not take '{path}'. In grey: {grey} In colours: {colour} Scale the pictures to the size that it was trained on.");

        string? Try(long channels)
        {
            using var scope = NewDisposeScope();
            using var image = ReferenceImage.Load(path, channels);
            try
            {
                classifier.Logits(image.to(classifier.Dtype()));
                return null;
            }
            catch (Exception e) when (e is System.Runtime.InteropServices.ExternalException or ArgumentException)
            {
                return $"{e.Message.Split('\n')[0].TrimEnd('.')} ({image.shape[3]} × {image.shape[2]} pixels).";
            }
        }
    }
}
