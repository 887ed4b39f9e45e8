using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Workers;

/// <summary>Where a worker writes what its device computes, and wipes it out at the end: what is found after the process has ended, it may have died of.</summary>
/// <remarks>One that cannot be written is done without; coordinators then go by what they heard last. One of a silo that stops is removed: what is handed back was not lost to what it computes.</remarks>
internal sealed class WorkerSlate
{
    private readonly Lock _gate = new();
    private readonly byte[] _line = new byte[AttemptMark.LineLength];
    private readonly IDisk _disk;
    private readonly string _path;
    private readonly Action<Exception> _failed;
    private ISlate? _slate;
    private bool _closed;

    public WorkerSlate(IDisk disk, string path, Action<Exception> failed, CancellationToken stopping)
    {
        (_disk, _path, _failed) = (disk, path, failed);
        stopping.Register(Close);
    }

    public void Write(ShardToken token) => Do(() =>
    {
        AttemptMark.WriteTo(_line, token);
        (_slate ??= _disk.OpenSlate(_path)).Write(_line);
    });

    public void Clear() => Do(() =>
    {
        _line.AsSpan().Fill((byte)' ');
        _slate?.Write(_line);
    });

    /// <summary>Removes it for good.</summary>
    public void Close() => Do(() =>
    {
        _closed = true;
        if (_slate is null)
            return;
        _slate.Dispose();
        _disk.RemoveSlate(_path);
    });

    private void Do(Action what)
    {
        lock (_gate)
        {
            if (_closed)
                return;
            try
            {
                what();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                _closed = true;
                _failed(e);
            }
        }
    }
}
