using System.Diagnostics;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Silo;

/// <summary>Stops the silo when the process that started it is gone: a killed <c>adpm run</c> leaves nothing behind for ever. What is under way goes on to its end where that was asked for: a run survives its terminal.</summary>
internal sealed partial class ParentWatch(int parentProcessId, bool finish, IGrainFactory grains, TimeProvider time, IHostApplicationLifetime lifetime, ILogger<ParentWatch> logger) : BackgroundService
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(3);

    /// <summary>Looks at which nothing may be under way: a client may be about to submit.</summary>
    private const int IdleLooks = 4;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            using var parent = Process.GetProcessById(parentProcessId);
            await parent.WaitForExitAsync(stoppingToken);
        }
        catch (ArgumentException)
        {
            // Gone before we looked.
        }

        if (finish)
        {
            LogAlone(logger, parentProcessId);
            for (var idle = 0; idle < IdleLooks; await Task.Delay(Look, time, stoppingToken))
                idle = await IsBusyAsync(stoppingToken) ? 0 : idle + 1;
        }

        LogGone(logger, parentProcessId);
        lifetime.StopApplication();
    }

    private async Task<bool> IsBusyAsync(CancellationToken cancellationToken)
    {
        try
        {
            var experiments = await grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key).ListAsync(0, ExperimentSnapshot.MostTrials, cancellationToken);
            // A paused one waits for somebody who will start silos for it.
            return experiments.Any(experiment => experiment.State is RunState.Queued or RunState.Running);
        }
        catch (Exception e) when (e is TimeoutException or Orleans.Runtime.OrleansException)
        {
            LogNoAnswer(logger, e.Message);
            return true;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Process {ProcessId}, which started this silo, has ended; the silo stops too.")]
    private static partial void LogGone(ILogger logger, int processId);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Process {ProcessId}, which started this silo, has ended; the silo finishes what is under way.")]
    private static partial void LogAlone(ILogger logger, int processId);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The list of experiments does not answer: {Reason}")]
    private static partial void LogNoAnswer(ILogger logger, string reason);
}
