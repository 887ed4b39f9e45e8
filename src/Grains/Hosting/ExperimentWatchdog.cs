using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Wakes unfinished experiments: when this silo starts, when the membership changes, and now and then. Grains do not come back unless they are called.</summary>
internal sealed partial class ExperimentWatchdog(IGrainFactory grains, IClusterMembershipService membership, IHostApplicationLifetime lifetime, TimeProvider time, ILogger<ExperimentWatchdog> logger) : BackgroundService
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(10);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var started = new TaskCompletionSource();
        await using (lifetime.ApplicationStarted.Register(started.SetResult))
            await started.Task.WaitAsync(stoppingToken);
        var updates = membership.MembershipUpdates.GetAsyncEnumerator(stoppingToken);
        var changed = updates.MoveNextAsync().AsTask();
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await PokeAsync(stoppingToken);
                await Task.WhenAny(changed, Task.Delay(Period, time, stoppingToken));
                if (changed.IsCompleted)
                    changed = await changed ? updates.MoveNextAsync().AsTask() : Task.Delay(Timeout.InfiniteTimeSpan, stoppingToken).ContinueWith(_ => false, TaskScheduler.Default);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
#pragma warning disable CA1031 // A watchdog outlives what it watches.
            catch (Exception e)
#pragma warning restore CA1031
            {
                LogNotPoked(logger, e.Message);
                await Task.Delay(TimeSpan.FromSeconds(1), time, stoppingToken);
            }
        }
    }

    private async Task PokeAsync(CancellationToken cancellationToken)
    {
        var directory = grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key);
        const int Page = 200;
        for (var skip = 0; ; skip += Page)
        {
            var page = await directory.ListAsync(skip, Page, cancellationToken);
            foreach (var experiment in page.Where(summary => !TrialTable.IsEnded(summary.State)))
                await grains.GetGrain<ITrialReportsGrain>(experiment.Id).PokeAsync().WaitAsync(cancellationToken);
            if (page.Count < Page)
                return;
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Unfinished experiments could not be woken; trying again: {Reason}")]
    private static partial void LogNotPoked(ILogger logger, string reason);
}
