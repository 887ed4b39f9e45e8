using System.Runtime.CompilerServices;
using AdjointDpm.Grains.Specs;
using TorchSharp;

namespace AdjointDpm.Grains.Workers.Engine;

// What an engine tells of its memory, so that several can share a device.
internal sealed partial class GradientEngine
{
    /// <summary>Most bytes that a shard's gradient held above the weights while nothing else was computed.</summary>
    private readonly ConditionalWeakTable<ExperimentSpec, StrongBox<long>> _measured = [];

    public long HeldBytes => _models.Sum(entry => entry.Model.Bytes) + _networks.Bytes;

    public long? BytesAbove(TrialPlan plan, bool isGradient)
    {
        var model = _models.Find(entry => entry.Key == KeyOf(plan.Spec)).Model;
        if (plan.Spec.Resources.Memory is { } told)
            return Math.Max(0, ByteSize.Read(told)!.Value - (model?.Bytes ?? 0));
        // What loads a model takes more than the model for a while.
        if (model is null || !isGradient || plan.Lean)
            return null;
        return model.Sampled.PlannedBytes(plan.Spec) ?? (_measured.TryGetValue(plan.Spec, out var most) ? most.Value : null);
    }

    /// <summary>Remembers what a shard took. Beside others of the process nobody can tell whose bytes the heap grew by, and the statistics do not say any.</summary>
    private ShardGradient Noted(ThreadCount threads, TrialPlan plan, ShardGradient gradient)
    {
        if (!threads.IsAlone)
            return gradient with { Statistics = gradient.Statistics with { PeakLiveBytes = null } };
        // The heap is the host's.
        if (gradient.Statistics.PeakLiveBytes is { } bytes && _device.type == DeviceType.CPU && !plan.Lean)
        {
            var most = _measured.GetOrCreateValue(plan.Spec);
            most.Value = Math.Max(most.Value, bytes);
        }
        return gradient;
    }
}
