using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What is measured of a batch of samples beside the losses that were trained on: what judges that took no part say of it.</summary>
internal static class HeldOutSums
{
    /// <summary>Adds, summed over the samples and as far as the spec asks for it: <c>accuracy</c>, samples that the held-out classifier takes for what they were asked to show; <c>losses.*</c>, the held-out losses;
    /// <c>diversity</c>, root-mean-square distance in pixels to the other samples of the batch, of the same class where there are such; <c>distance</c>, the same to the untrained model's sample from the same noise.</summary>
    /// <param name="sums">Where to.</param>
    /// <param name="spec">Spec.</param>
    /// <param name="samples">Which samples these are.</param>
    /// <param name="batch">The batch as losses see it.</param>
    /// <param name="drawn">x_0.</param>
    /// <param name="noise">x_T.</param>
    public static void Add(Dictionary<string, double> sums, ExperimentSpec spec, ShardSamples samples, LossBatch batch, Tensor drawn, Tensor noise)
    {
        if (spec.HeldOut is not { } heldOut)
            return;
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var pictures = batch.Picture(drawn);
        if (heldOut.Classifier is { } judge)
            sums[HeldOutMetrics.Accuracy] = Recognised(batch, heldOut, judge, pictures);
        if (heldOut.Diversity == true)
            sums[HeldOutMetrics.Diversity] = Diversity(pictures, samples.Conditions);
        if (heldOut.Distance == true)
            sums[HeldOutMetrics.Distance] = Distances(pictures, batch.Picture(batch.Frozen())).sum().item<double>();
        if (heldOut.Losses is not { } losses)
            return;
        using var others = new TrialLoss(batch with { Spec = spec with { Losses = losses } });
        foreach (var (name, sum) in others.Sums(drawn, noise))
            sums[name == HeldOutMetrics.Loss ? HeldOutMetrics.LossesSum : HeldOutMetrics.LossesPrefix + name] = sum;
    }

    /// <summary>The classes that a classifier sees, one for each picture.</summary>
    /// <param name="judge">Classifier.</param>
    /// <param name="pictures">Pictures in [-1, 1].</param>
    /// <param name="resize">Size that they are brought to before; null for their own.</param>
    public static long[] Said(ImageClassifier judge, Tensor pictures, int? resize)
    {
        using var scope = NewDisposeScope();
        var seen = pictures.to(judge.Dtype());
        return judge.Logits(resize is { } side ? ImageResize.To(seen, side, side) : seen).argmax(1).cpu().data<long>().ToArray();
    }

    private static double Recognised(LossBatch batch, HeldOutSpec heldOut, string path, Tensor pictures)
    {
        long[] wanted = heldOut.Label is { } label ? [.. Enumerable.Repeat((long)label, (int)pictures.shape[0])] : batch.Labels;
        if (wanted.Length == 0)
            throw new InvalidDataException($"heldOut.classifier is '{path}', but the model has no classes that it could recognise. Remove it.");
        return Said(batch.Networks.Classifier(path, batch.Dtype), pictures, heldOut.Resize).Zip(wanted).Count(pair => pair.First == pair.Second);
    }

    /// <summary>The sum over the samples of each one's mean distance to the others of its class.</summary>
    private static double Diversity(Tensor pictures, long[] conditions)
    {
        var count = (int)pictures.shape[0];
        var flat = pictures.to(ScalarType.Float64).flatten(1);
        var sum = 0.0;
        for (var i = 0; i < count; i++)
        {
            using var scope = NewDisposeScope();
            long[] others = [.. Enumerable.Range(0, count).Where(j => j != i).Select(j => (long)j)];
            long[] alike = [.. others.Where(j => conditions.Length == 0 || conditions[j] == conditions[i])];
            var chosen = flat.index_select(0, tensor(alike.Length > 0 ? alike : others, device: flat.device));
            sum += Distances(chosen, flat.narrow(0, i, 1)).mean().item<double>();
        }

        return sum;
    }

    /// <summary>Root-mean-square distance of each row of pixels: [B].</summary>
    private static Tensor Distances(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        var difference = a.to(ScalarType.Float64).sub(b.to(ScalarType.Float64)).flatten(1);
        return difference.mul(difference).mean([1]).sqrt().MoveToOuterDisposeScope();
    }
}
