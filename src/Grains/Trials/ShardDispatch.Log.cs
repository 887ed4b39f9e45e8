using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

internal sealed partial class ShardDispatch
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "Lease ran out: {Token}. The shard is given out again.")]
    private static partial void LogExpired(ILogger logger, ShardToken token);

    [LoggerMessage(Level = LogLevel.Information, Message = "Worker {Worker} did not deliver {Token}: {Reason}")]
    private static partial void LogLost(ILogger logger, string worker, ShardToken token, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "What workers of trial {Trial} had begun could not be read: {Reason}")]
    private static partial void LogMarksNotRead(ILogger logger, string trial, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Worker {Worker} computed {Token} with other contents than the worker before it. One of them computes wrongly: check their memory, device and libtorch.")]
    private static partial void LogMismatch(ILogger logger, string worker, ShardToken token);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial} waits for {Least} worker(s) with a {Device} device.")]
    private static partial void LogNoWorkers(ILogger logger, string trial, int least, Specs.DeviceKind device);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} waits: resources.threads is {Threads}, and no silo with a {Device} device has so many cores (Workers:MaxThreads). Ask for fewer threads, or start silos with more cores.")]
    private static partial void LogTooManyThreads(ILogger logger, string trial, int threads, Specs.DeviceKind device);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Trial {Trial} waits for {Least} worker(s) that compute as its others did ({Arithmetic}): those there are round differently. In {Seconds} s (failure.unlikeAfterSeconds) it goes on with them, and says so.")]
    private static partial void LogUnlike(ILogger logger, string trial, int least, string arithmetic, double seconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Trial} waits for a worker with a {Device} device: all there are, {Cordoned}, are cordoned. 'adpm workers uncordon NAME' gives them work again.")]
    private static partial void LogAllCordoned(ILogger logger, string trial, Specs.DeviceKind device, int cordoned);
}
