namespace AdjointDpm.Bench;

/// <summary>Processor time of this process, so that figures from a busy machine still mean something.</summary>
internal sealed class CpuClock : TimeProvider
{
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Environment.CpuUsage.TotalTime.Ticks;
}
