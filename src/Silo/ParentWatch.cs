using System.Diagnostics;

namespace AdjointDpm.Silo;

/// <summary>Stops the silo when the process that started it is gone: a killed <c>adpm run</c> leaves nothing behind.</summary>
internal sealed partial class ParentWatch(int parentProcessId, IHostApplicationLifetime lifetime, ILogger<ParentWatch> logger) : BackgroundService
{
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

        LogGone(logger, parentProcessId);
        lifetime.StopApplication();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Process {ProcessId}, which started this silo, has ended; the silo stops too.")]
    private static partial void LogGone(ILogger logger, int processId);
}
