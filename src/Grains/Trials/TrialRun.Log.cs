using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

internal sealed partial class TrialRun
{
    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial} started.")]
    private static partial void LogStarted(ILogger logger, string trial);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial} goes on from step {Step} as epoch {Epoch}.")]
    private static partial void LogRecovered(ILogger logger, string trial, int step, long epoch);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial} ended: {State} after {Steps} steps. {Reason}")]
    private static partial void LogEnded(ILogger logger, string trial, Experiments.RunState state, int steps, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} was taken over by another activation; this one stops.")]
    private static partial void LogFenced(ILogger logger, string trial);

    [LoggerMessage(Level = LogLevel.Error, Message = "Trial {Trial} met an error and goes on from its last commit (attempt {Attempt} of {Most}).")]
    private static partial void LogError(ILogger logger, string trial, int attempt, int most, Exception error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} waits {Seconds} s for its storage and goes on from its last commit then: {Reason}")]
    private static partial void LogStorageAway(ILogger logger, string trial, double seconds, string reason);
}
