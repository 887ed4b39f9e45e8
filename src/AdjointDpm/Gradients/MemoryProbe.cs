using TorchSharp;

namespace AdjointDpm.Gradients;

/// <summary>Watches how many tensors and native bytes are alive.</summary>
internal sealed class MemoryProbe
{
    private readonly long _tensors = LiveTensors;
    private readonly long? _bytes = NativeHeap.InUse();

    /// <summary>Most tensors seen above the start.</summary>
    public long PeakTensors { get; private set; }

    /// <summary>Most bytes seen above the start, if the C library tells.</summary>
    public long? PeakBytes { get; private set; }

    private static long LiveTensors => DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;

    /// <summary>Notes the present; cheap beside one evaluation of a network.</summary>
    public void Look()
    {
        PeakTensors = Math.Max(PeakTensors, LiveTensors - _tensors);
        if (_bytes is { } before)
            PeakBytes = Math.Max(PeakBytes ?? 0, NativeHeap.InUse()!.Value - before);
    }
}
