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

    /// <summary>Wakes all, the newest first. One that cannot be woken does not keep the others asleep.</summary>
    internal async Task PokeAsync(CancellationToken cancellationToken)
    {
        var directory = grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key);
        const int Page = 200;
        for (var skip = 0; ; skip += Page)
        {
            var page = await directory.ListAsync(skip, Page, cancellationToken);
            foreach (var experiment in page.Where(summary => !TrialTable.IsEnded(summary.State)))
                await PokeAsync(experiment.Id, cancellationToken);
            if (page.Count < Page)
                return;
        }
    }

    private async Task PokeAsync(string experiment, CancellationToken cancellationToken)
    {
        try
        {
            await grains.GetGrain<ITrialReportsGrain>(experiment).PokeAsync().WaitAsync(cancellationToken);
        }
#pragma warning disable CA1031 // Whatever keeps one from being woken, the others are.
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
#pragma warning restore CA1031
        {
            LogOneNotPoked(logger, experiment, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Experiment {Experiment} could not be woken; trying again with the next round: {Reason}")]
    private static partial void LogOneNotPoked(ILogger logger, string experiment, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Unfinished experiments could not be woken; trying again: {Reason}")]
    private static partial void LogNotPoked(ILogger logger, string reason);
}
