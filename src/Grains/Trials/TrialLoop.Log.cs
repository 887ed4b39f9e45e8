using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

internal sealed partial class TrialLoop
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} lost a range of its parameters at step {Step}: {Reason} The ranges are placed anew from the last commit.")]
    private static partial void LogRangeLost(ILogger logger, string trial, int step, string reason);
}
