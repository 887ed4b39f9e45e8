using AdjointDpm.Gradients;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What is counted of samples whose x_T is trained: how far x_T went, and what the classifiers of the losses say before and after.</summary>
/// <remarks>
/// Success is of a noise, not of a sample: with several starts one that succeeds is enough. Only noises count that did not meet the goal to begin with:
/// untargeted, those whose sample the classifier took for its class; targeted, those that it took for another. Counts are of all starts, so that their mean is a share of the noises.
/// In a box, what succeeded is held against chance: blind moves as long as the attack's in the norm of the box (<see cref="NoisePart.Blind"/>).
/// </remarks>
internal sealed class NoiseAudit(ExperimentSpec spec, NoisePart noise, ShardSamples batch, LossNetworks networks, LoadedModel model)
{
    /// <summary>Adds to the sums: <c>noise.linf</c>, <c>noise.l2</c>, <c>noise.norm</c>, and for the first loss with a classifier's classes <c>classified</c>, <c>audit.met</c>, noises that meet the goal whatever they did at first, <c>audit.eligible</c>, <c>audit.success</c>,
    /// of these <c>audit.recognised</c>, those whose first start that succeeds still is what the sample was asked to show to the held-out classifier, and <c>audit.random</c>, those that blind moves would have brought as well.</summary>
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
        var classes = model.Sampled.Classes(batch.Conditions);
        var labels = loss.Label is { } label ? [.. Enumerable.Repeat((long)label, batch.Count)] : classes;
        if (labels.Length == 0)
            return;
        var (before, after) = (Said(folder, loss.Resize, Drawn(centre)), Said(folder, loss.Resize, samples));
        sums["classified"] = after.Where((said, i) => said == labels[i]).Count();
        var (eligible, success, recognised, random, met) = (0, 0, 0, 0, 0);
        var box = spec.Train.Noise?.Box is not null;
        // Still what it was asked to be: a label that the attack is after is another matter.
        var kept = spec.HeldOut?.Label is { } own ? [.. Enumerable.Repeat((long)own, batch.Count)] : classes;
        var held = box && kept.Length > 0 && spec.HeldOut?.Classifier is { } other ? Said(other, spec.HeldOut.Resize, samples) : null;
        var shaken = box ? Said(folder, loss.Resize, Drawn(centre.sub(noise.Blind(moves, batch.Shard, batch.From).neg()))) : null;
        var restarts = FixedSamples.Restarts(spec);
        for (var first = 0; first < batch.Count; first += restarts)
        {
            var starts = Math.Min(restarts, batch.Count - first);
            var tries = Enumerable.Range(first, starts).ToArray();
            if (tries.Any(i => Met(after, i)))
                met += starts;
            if (Met(before, first))
                continue;
            eligible += starts;
            if (shaken is not null && tries.Any(i => Met(shaken, i)))
                random += starts;
            if (!tries.Any(i => Met(after, i)))
                continue;
            success += starts;
            var found = tries.First(i => Met(after, i));
            if (held is not null && held[found] == kept[found])
                recognised += starts;
        }
        (sums["audit.eligible"], sums["audit.success"], sums["audit.met"]) = (eligible, success, met);
        if (held is not null)
            sums["audit.recognised"] = recognised;
        if (box)
            sums["audit.random"] = random;

        bool Met(long[] said, int i) => said[i] == labels[i] != (loss.Goal == AuditGoalName.Untargeted);

        Tensor Drawn(Tensor noise) => Sampling.Sample(request with { Noise = noise }, cancellationToken).Sample;
    }

    private long[] Said(string folder, int? resize, Tensor samples) => HeldOutSums.Said(networks.Classifier(folder, model.Dtype), model.Sampled.Picture(samples), resize);

    private static double Sum(Tensor values) => values.sum().item<double>();
}
