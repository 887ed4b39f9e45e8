using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Experiments;

internal sealed partial class ExperimentRun
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "What was observed of trial {Experiment}/{Trial} cannot be read and is left out of the report: {Reason}")]
    private static partial void LogNotObserved(ILogger logger, string experiment, int trial, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Experiment {Experiment} accepted with {Trials} trials.")]
    private static partial void LogSubmitted(ILogger logger, string experiment, int trials);

    [LoggerMessage(Level = LogLevel.Information, Message = "Experiment {Experiment} goes on after event {Sequence} as epoch {Epoch}.")]
    private static partial void LogRecovered(ILogger logger, string experiment, long sequence, long epoch);

    [LoggerMessage(Level = LogLevel.Information, Message = "Experiment {Experiment} ended: {State}. {Reason}")]
    private static partial void LogEnded(ILogger logger, string experiment, RunState state, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Event {Sequence} of experiment {Experiment} could not be written: {Reason}")]
    private static partial void LogNotWritten(ILogger logger, string experiment, int sequence, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} of experiment {Experiment} could not be reached and is asked again: {Reason}")]
    private static partial void LogNotReached(ILogger logger, string experiment, int trial, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} of experiment {Experiment} runs although it has ended for the experiment, or is none of its trials. It is told to end.")]
    private static partial void LogNotWanted(ILogger logger, string experiment, int trial);
}
