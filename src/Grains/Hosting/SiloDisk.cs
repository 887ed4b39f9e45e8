using AdjointDpm.Grains.Storage;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Hosting;

/// <summary>The journaled disk of a silo: opened before any grain lives, ended after all of them.</summary>
internal sealed partial class SiloDisk : ILifecycleParticipant<ISiloLifecycle>, IDisposable
{
    private readonly OneThread _writer = new("journal");
    private readonly IHostApplicationLifetime _lifetime;
    private readonly ILogger _logger;

    public SiloDisk(SiloFolders folders, TimeProvider time, IHostApplicationLifetime lifetime, ILogger<SiloDisk> logger)
    {
        (_lifetime, _logger) = (lifetime, logger);
        Disk = new JournaledDisk(new LocalDisk(), folders.Data, $"{Environment.ProcessId:d}.{Guid.NewGuid():N}", time, _writer, TaskScheduler.Default, Fail);
    }

    public JournaledDisk Disk { get; }

    public void Participate(ISiloLifecycle lifecycle) => lifecycle.Subscribe(nameof(SiloDisk), ServiceLifecycleStage.RuntimeInitialize, OpenAsync, CloseAsync);

    public void Dispose() => _writer.Dispose();

    private async Task OpenAsync(CancellationToken cancellationToken)
    {
        if (await Disk.OpenAsync() is > 0 and var again)
            LogRecovered(_logger, again);
    }

    private async Task CloseAsync(CancellationToken cancellationToken) => await Disk.DisposeAsync();

    private void Fail(Exception reason)
    {
        LogFailed(_logger, reason);
        // What follows would be built on what may not be there.
        _lifetime.StopApplication();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The machine was started anew before everything was in its place: {Changes} changes were written again from the journals.")]
    private static partial void LogRecovered(ILogger logger, int changes);

    [LoggerMessage(Level = LogLevel.Critical, Message = "The journal cannot be written, so this silo stops. See that the data folder's disk has room and works; nothing that was committed is lost.")]
    private static partial void LogFailed(ILogger logger, Exception reason);
}
