using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class SampleScoresTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-score-").FullName;
    private readonly string _classifier;

    public SampleScoresTests()
    {
        using var made = new ConvClassifier(new ConvClassifierConfig { SampleSize = 8, NumClasses = 3, Channels = [4, 6, 8] });
        ClassifierFolder.Save(made, _classifier = Path.Combine(_folder, "classifier"));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Score_IsWhatTheClassifierSays()
    {
        var pictures = Draw("pictures", 40, seed: 1);
        using var classifier = ClassifierFolder.Load(_classifier);
        classifier.eval();
        using var scope = NewDisposeScope();
        var taken = Directory.GetFiles(pictures).Order(StringComparer.Ordinal).Select(path => (int)classifier.Logits(ReferenceImage.Load(path, 1)).argmax(1).item<long>()).ToArray();
        var score = SampleScores.Run(new ScoreRequest(pictures, _classifier) { Label = 1, Reference = pictures });
        Assert.Equal((40, 40, taken.Count(c => c == 1)), (score.Samples, score.Labelled, score.Recognised));
        Assert.Equal(Enumerable.Range(0, 3).Select(c => taken.Count(t => t == c)), score.Predicted);
        Assert.InRange(score.Share!.Value, score.Share.Low, score.Share.High);
        // The Fréchet distance of a set to itself; the unbiased kernel distance counts no picture beside itself, and so is below zero.
        Assert.Equal(0, score.Frechet!.Value, 1e-6);
        Assert.True(score.Kernel!.Value < 0);
        Assert.Equal(8, score.FeatureLength);
    }

    [Fact]
    public void FoldersNamedAfterClasses_SayWhatPicturesAreToBe()
    {
        var pictures = Draw("by-class/0", 5, seed: 2);
        Draw("by-class/2", 7, seed: 3);
        Draw("by-class/unknown", 2, seed: 4);
        var score = SampleScores.Run(new ScoreRequest(Path.GetDirectoryName(pictures)!, _classifier));
        Assert.Equal((12, 12, 2), (score.Samples, score.Labelled, score.DiverseClasses));
        Assert.True(score.Diversity > 0);
        Assert.Null(score.Frechet);
        Assert.Null(SampleScores.Run(new ScoreRequest(pictures, _classifier)).Share);
    }

    /// <summary>A net of dense layers alone recognises; it has no maps that pictures could be compared by.</summary>
    [Fact]
    public void ClassifierWithoutMaps_Recognises_AndComparesNothing()
    {
        var pictures = Draw("pictures", 25, seed: 1);
        var dense = Path.Combine(_folder, "dense");
        using (var made = new SequentialClassifier(new SequentialClassifierConfig { InChannels = 1, SampleSize = 8, Layers = [new() { Type = LayerKind.Flatten }, new() { Type = LayerKind.Linear, Name = "dense", InFeatures = 64, OutFeatures = 3 }] }))
        {
            Assert.Empty(made.Features(zeros(1, 1, 8, 8)));
            ClassifierFolder.Save(made, dense);
        }

        var score = SampleScores.Run(new ScoreRequest(pictures, dense) { Label = 1 });
        Assert.Equal((25, 25, 0, ""), (score.Samples, score.Labelled, score.DiverseClasses, score.Layer));
        Assert.NotNull(score.Share);
        Assert.Null(score.Diversity);
        Says<InvalidDataException>("has no layer 'dense'. None of its layers makes maps.", new ScoreRequest(pictures, dense) { Layer = "dense" });
        Says<InvalidDataException>("Name a classifier with convolutions, or leave --reference out.", new ScoreRequest(pictures, dense) { Reference = pictures });
    }

    [Fact]
    public void WhatDoesNotFit_IsNamed()
    {
        var pictures = Draw("pictures", 3, seed: 5);
        Says<DirectoryNotFoundException>("There is no folder", new ScoreRequest(Path.Combine(_folder, "none"), _classifier));
        Says<InvalidDataException>("holds no pictures", new ScoreRequest(Directory.CreateDirectory(Path.Combine(_folder, "empty")).FullName, _classifier));
        Says<InvalidDataException>("has no layer 'x'. It has", new ScoreRequest(pictures, _classifier) { Layer = "x" });
        Says<InvalidDataException>("--label is 3, but", new ScoreRequest(pictures, _classifier) { Label = 3 });
        Says<InvalidDataException>("Distances need at least 20 pictures in each folder, but there are 3 and 3.", new ScoreRequest(pictures, _classifier) { Reference = pictures });
        Picture.Write(Path.Combine(pictures, "z.png"), zeros(1, 9, 8));
        Says<InvalidDataException>("Pictures of one folder must be of one size.", new ScoreRequest(pictures, _classifier));
        Picture.Write(Path.Combine(Path.Combine(_folder, "large"), "a.png"), zeros(1, 40, 30));
        Says<InvalidDataException>("(30 × 40 pixels). Scale the pictures to the size that it was trained on.", new ScoreRequest(Path.Combine(_folder, "large"), _classifier));
        File.WriteAllText(Path.Combine(pictures, "a.png"), "no picture");
        Says<InvalidDataException>("is not a picture that can be read", new ScoreRequest(pictures, _classifier));
        Draw("by-class/7", 1, seed: 6);
        Says<InvalidDataException>("is named after a class that the classifier does not have; it has 0 to 2.", new ScoreRequest(Path.Combine(_folder, "by-class"), _classifier));
    }

    private static void Says<T>(string expected, ScoreRequest request)
        where T : Exception =>
        Assert.Contains(expected, Assert.Throws<T>(() => SampleScores.Run(request)).Message, StringComparison.Ordinal);

    private string Draw(string name, int count, ulong seed)
    {
        var folder = Path.Combine(_folder, name);
        using var noise = CounterNoise.Normal(new NoiseKey(seed), [count, 1, 8, 8]);
        for (var i = 0; i < count; i++)
            Picture.Write(Path.Combine(folder, $"{i:d3}.png"), noise[i]);
        return folder;
    }
}
