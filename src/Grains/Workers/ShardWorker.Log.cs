using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Workers;

internal sealed partial class ShardWorker
{
    [LoggerMessage(Level = LogLevel.Debug, Message = "Worker {Worker} takes {Token}.")]
    private static partial void LogTaken(ILogger logger, string worker, ShardToken token);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Worker {Worker} finished {Token} in {Seconds:F3} s.")]
    private static partial void LogDone(ILogger logger, string worker, ShardToken token, double seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Worker {Worker} failed {Token} ({Kind}): {Reason}")]
    private static partial void LogFailed(ILogger logger, string worker, ShardToken token, string kind, string reason, Exception error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Worker {Worker} cannot write down in the data folder what it begins, so that its end would say less: {Reason}")]
    private static partial void LogNotMarked(ILogger logger, string worker, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Worker {Worker} hands back {Token}: its silo is stopping.")]
    private static partial void LogHandedBack(ILogger logger, string worker, ShardToken token);

    [LoggerMessage(Level = LogLevel.Information, Message = "Worker {Worker} drops {Token}: nobody has asked for it since {Since}.")]
    private static partial void LogOrphan(ILogger logger, string worker, ShardToken token, DateTimeOffset since);
}
