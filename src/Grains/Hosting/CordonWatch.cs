using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Keeps this silo's inventory informed of which workers are cordoned, so that leasing a shard asks nobody.</summary>
internal sealed partial class CordonWatch(IGrainFactory grains, WorkerInventory inventory, IHostApplicationLifetime lifetime, TimeProvider time, ILogger<CordonWatch> logger) : BackgroundService
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using (lifetime.ApplicationStarted.Register(started.SetResult))
            await started.Task.WaitAsync(stoppingToken);
        var said = false;
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                inventory.Learn(await grains.GetGrain<ICordonGrain>(ICordonGrain.Key).GetAsync().WaitAsync(stoppingToken));
                said = false;
                await Task.Delay(Period, time, stoppingToken);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // A watch outlives what it watches.
            catch (Exception e)
#pragma warning restore CA1031
            {
                if (!said)
                    LogNotRead(logger, inventory.Knows ? "What was known before holds" : "No work is given out by this silo before that", e.Message);
                said = true;
                await Task.Delay(Period / 4, time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Which workers are cordoned could not be read; trying again. {Meanwhile}: {Reason}")]
    private static partial void LogNotRead(ILogger logger, string meanwhile, string reason);
}
