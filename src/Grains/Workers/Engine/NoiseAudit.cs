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
/// </remarks>
internal sealed class NoiseAudit(ExperimentSpec spec, NoisePart noise, ShardSamples batch, LossNetworks networks, LoadedModel model)
{
    /// <summary>Adds to the sums: <c>noise.linf</c>, <c>noise.l2</c>, <c>noise.norm</c>, and for the first loss with a classifier's classes <c>classified</c>, <c>audit.eligible</c> and <c>audit.success</c>.</summary>
    public void Count(Dictionary<string, double> sums, SampleRequest request, Tensor samples, CancellationToken cancellationToken)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var now = request.Noise.to(ScalarType.Float64).flatten(1);
        var moved = now.sub(noise.Centre(batch.Shard, batch.From, batch.Count).to(ScalarType.Float64).flatten(1));
        sums["noise.linf"] = Sum(moved.abs().amax([1]));
        sums["noise.l2"] = Sum(moved.mul(moved).sum(1).sqrt());
        sums["noise.norm"] = Sum(now.mul(now).sum(1).sqrt());
        if (spec.Losses.FirstOrDefault(loss => loss.Name is LossName.CrossEntropy or LossName.LogProbability or LossName.Margin) is not { Classifier: { } folder } loss)
            return;
        var judge = networks.Classifier(folder, model.Dtype);
        var labels = loss.Label is { } label ? [.. Enumerable.Repeat((long)label, batch.Count)] : model.Sampled.Classes(batch.Conditions);
        if (labels.Length == 0)
            return;
        using var start = Sampling.Sample(request with { Noise = noise.Centre(batch.Shard, batch.From, batch.Count) }, cancellationToken);
        var (before, after) = (Said(judge, start.Sample), Said(judge, samples));
        var away = loss.Goal == AuditGoalName.Untargeted;
        bool Met(long said, int i) => said == labels[i] != away;
        sums["classified"] = after.Where((said, i) => said == labels[i]).Count();
        var (eligible, success, restarts) = (0, 0, FixedSamples.Restarts(spec));
        for (var first = 0; first < batch.Count; first += restarts)
        {
            if (Met(before[first], first))
                continue;
            var starts = Math.Min(restarts, batch.Count - first);
            eligible += starts;
            if (Enumerable.Range(first, starts).Any(i => Met(after[i], i)))
                success += starts;
        }
        (sums["audit.eligible"], sums["audit.success"]) = (eligible, success);
    }

    private long[] Said(ImageClassifier judge, Tensor samples) => judge.Logits(model.Sampled.Picture(samples).to(judge.Dtype())).argmax(1).cpu().data<long>().ToArray();

    private static double Sum(Tensor values) => values.sum().item<double>();
}
