using System.Runtime.CompilerServices;
using AdjointDpm.Grains.Specs;
using TorchSharp;

namespace AdjointDpm.Grains.Workers.Engine;

// What an engine tells of its memory, so that several can share a device.
internal sealed partial class GradientEngine
{
    /// <summary>Most bytes of a trial's model and a shard's gradient together, for all engines of the process: the next one on a device need not find it out alone.</summary>
    private static readonly ConditionalWeakTable<ExperimentSpec, StrongBox<long>> Known = [];

    public long HeldBytes => _models.Sum(entry => entry.Model.Bytes) + _networks.Bytes;

    public long? BytesAbove(TrialPlan plan, bool isGradient)
    {
        var whole = plan.Spec.Resources.Memory is { } told ? ByteSize.Read(told)
            : isGradient && !plan.Lean && Known.TryGetValue(plan.Spec, out var most) ? most.Value : null;
        return whole is { } bytes ? Math.Max(0, bytes - (_models.Find(entry => entry.Key == KeyOf(plan.Spec)).Model?.Bytes ?? 0)) : null;
    }

    /// <summary>Remembers what a shard took. Beside others of the process nobody can tell whose bytes the heap grew by, and the statistics do not say any.</summary>
    private ShardGradient Noted(ThreadCount threads, TrialPlan plan, ShardGradient gradient)
    {
        var measured = threads.IsAlone ? gradient.Statistics.PeakLiveBytes : null;
        var model = _models[^1].Model;
        // The heap is the host's.
        if (!plan.Lean && (model.Sampled.PlannedBytes(plan.Spec) ?? (_device.type == DeviceType.CPU ? measured : null)) is { } bytes)
        {
            var most = Known.GetOrCreateValue(plan.Spec);
            lock (most)
                most.Value = Math.Max(most.Value, model.Bytes + bytes);
        }
        return gradient with { Statistics = gradient.Statistics with { PeakLiveBytes = measured } };
    }
}
