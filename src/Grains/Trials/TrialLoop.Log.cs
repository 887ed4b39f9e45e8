using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

internal sealed partial class TrialLoop
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} lost a range of its parameters at step {Step}: {Reason} The ranges are placed anew from the last commit.")]
    private static partial void LogRangeLost(ILogger logger, string trial, int step, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial}: from step {Step} on gradients are computed one sample at a time: {Reason}")]
    private static partial void LogLean(ILogger logger, string trial, int step, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial}: from step {Step} on its workers round differently than those before: {Reason}")]
    private static partial void LogUnlike(ILogger logger, string trial, int step, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial}: training ends after step {Step}: the held-out metric has not become better for {Looks} evaluations")]
    private static partial void LogStopped(ILogger logger, string trial, int step, int looks);
}
