using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Silo.Tools;

/// <summary>Tells whoever started a tool how far it is, a few times a second, in lines before the answer.</summary>
/// <param name="output">Where to; null when nobody wants to know.</param>
/// <param name="time">Clock.</param>
internal sealed class ToolTelling(TextWriter? output, TimeProvider time) : IProgress<ToolProgress>
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(150);

    private readonly Lock _lock = new();
    private long? _told;
    private string? _what;

    public void Report(ToolProgress value)
    {
        if (output is null)
            return;
        lock (_lock)
        {
            // What begins and what ends is told at once.
            if (_told is { } told && value.What == _what && value.Done < value.Total && time.GetElapsedTime(told) < Pause)
                return;
            (_told, _what) = (time.GetTimestamp(), value.What);
            output.WriteLine(ToolJson.Write(new ToolAnswer { Progress = value }));
            output.Flush();
        }
    }
}
