using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Workers;

/// <summary>A worker's mark in the trial's folder, there while the device computes: what is found after the process has ended, it may have died of.</summary>
/// <remarks>A mark that cannot be written is done without; coordinators then go by what they heard last.</remarks>
internal sealed class HeldMark : IDisposable
{
    private readonly IDisk _disk;
    private readonly string? _path;
    private readonly Action _ended;
    private readonly CancellationTokenRegistration _stopping;

    /// <param name="disk">Disk.</param>
    /// <param name="path">Where it lies; null for none.</param>
    /// <param name="failed">Told when it cannot be written.</param>
    /// <param name="ended">Told when the work has ended.</param>
    /// <param name="stopping">Ends with the silo: what is then handed back is not lost to what it computes.</param>
    public HeldMark(IDisk disk, string? path, Action<Exception> failed, Action ended, CancellationToken stopping)
    {
        (_disk, _path, _ended) = (disk, path, ended);
        if (path is null)
            return;
        try
        {
            disk.Mark(path);
            _stopping = stopping.Register(Remove);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _path = null;
            failed(e);
        }
    }

    public void Dispose()
    {
        _stopping.Dispose();
        Remove();
        _ended();
    }

    private void Remove()
    {
        try
        {
            if (_path is not null)
                _disk.Unmark(_path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It counts only when this process does not end well.
        }
    }
}
