using AdjointDpm.Gradients;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What is counted of samples whose x_T is trained: how far x_T went, and what the classifiers of the losses say before and after.</summary>
/// <remarks>
/// Success is of a noise, not of a sample: with several starts one that succeeds is enough. Only noises count that did not meet the goal to begin with:
/// untargeted, those whose sample the classifier took for its class; targeted, those that it took for another. Counts are of all starts, so that their mean is a share of the noises.
/// In a box, what succeeded is held against noise: the same moves, value by value, with random signs, and so of the same length in every norm.
/// </remarks>
internal sealed class NoiseAudit(ExperimentSpec spec, NoisePart noise, ShardSamples batch, LossNetworks networks, LoadedModel model)
{
    /// <summary>Adds to the sums: <c>noise.linf</c>, <c>noise.l2</c>, <c>noise.norm</c>, and for the first loss with a classifier's classes <c>classified</c>, <c>audit.eligible</c>, <c>audit.success</c>,
    /// of these <c>audit.recognised</c>, those whose first start that succeeds still is its class to the held-out classifier, and <c>audit.random</c>, those that random signs would have brought as well.</summary>
    public void Count(Dictionary<string, double> sums, SampleRequest request, Tensor samples, CancellationToken cancellationToken)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var centre = noise.Centre(batch.Shard, batch.From, batch.Count);
        var moves = request.Noise.sub(centre);
        var now = request.Noise.to(ScalarType.Float64).flatten(1);
        var moved = moves.to(ScalarType.Float64).flatten(1);
        sums["noise.linf"] = Sum(moved.abs().amax([1]));
        sums["noise.l2"] = Sum(moved.mul(moved).sum(1).sqrt());
        sums["noise.norm"] = Sum(now.mul(now).sum(1).sqrt());
        if (spec.Losses.FirstOrDefault(SampleClasses.IsSeenBy) is not { Classifier: { } folder } loss)
            return;
        var judge = networks.Classifier(folder, model.Dtype);
        var labels = loss.Label is { } label ? [.. Enumerable.Repeat((long)label, batch.Count)] : model.Sampled.Classes(batch.Conditions);
        if (labels.Length == 0)
            return;
        var (before, after) = (Said(judge, Drawn(centre)), Said(judge, samples));
        sums["classified"] = after.Where((said, i) => said == labels[i]).Count();
        var (eligible, success, recognised, random) = (0, 0, 0, 0);
        var box = spec.Train.Noise?.Box is not null;
        var held = box && spec.HeldOut?.Classifier is { } other ? Said(networks.Classifier(other, model.Dtype), samples) : null;
        var shaken = box ? Said(judge, Drawn(centre.add(moves.mul(noise.Signs(batch.Shard, batch.From, batch.Count))))) : null;
        var restarts = FixedSamples.Restarts(spec);
        for (var first = 0; first < batch.Count; first += restarts)
        {
            if (Met(before, first))
                continue;
            var starts = Math.Min(restarts, batch.Count - first);
            var tries = Enumerable.Range(first, starts).ToArray();
            eligible += starts;
            if (shaken is not null && tries.Any(i => Met(shaken, i)))
                random += starts;
            if (!tries.Any(i => Met(after, i)))
                continue;
            success += starts;
            var found = tries.First(i => Met(after, i));
            if (held is not null && held[found] == (spec.HeldOut?.Label ?? labels[found]))
                recognised += starts;
        }
        (sums["audit.eligible"], sums["audit.success"]) = (eligible, success);
        if (held is not null)
            sums["audit.recognised"] = recognised;
        if (box)
            sums["audit.random"] = random;

        bool Met(long[] said, int i) => said[i] == labels[i] != (loss.Goal == AuditGoalName.Untargeted);

        Tensor Drawn(Tensor noise) => Sampling.Sample(request with { Noise = noise }, cancellationToken).Sample;
    }

    private long[] Said(ImageClassifier judge, Tensor samples) => judge.Logits(model.Sampled.Picture(samples).to(judge.Dtype())).argmax(1).cpu().data<long>().ToArray();

    private static double Sum(Tensor values) => values.sum().item<double>();
}
