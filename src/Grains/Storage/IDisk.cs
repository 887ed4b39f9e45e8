namespace AdjointDpm.Grains.Storage;

/// <summary>What coordinators and grain state need of a disk: few operations with known behaviour in a crash.</summary>
internal interface IDisk
{
    bool Exists(string path);

    /// <summary>The whole file; null when there is none.</summary>
    Task<byte[]?> ReadAsync(string path);

    /// <summary>A run of a file's bytes.</summary>
    /// <exception cref="IOException">The file is missing or too short.</exception>
    Task<byte[]> ReadAsync(string path, long start, int length);

    /// <summary>Replaces the whole file: afterwards, and after a crash at any moment, it is the old one or the new one.</summary>
    Task WriteAsync(string path, ReadOnlyMemory<byte> contents);

    /// <summary>Adds to the end. A crash may leave a beginning of it; an error leaves nothing.</summary>
    /// <param name="path">File; made when missing.</param>
    /// <param name="contents">What is added.</param>
    /// <param name="durable">Whether it must be on the disk on return, and not only seen by others.</param>
    void Append(string path, ReadOnlySpan<byte> contents, bool durable);

    /// <summary>Removes a file if it is there.</summary>
    void Delete(string path);

    /// <summary>Paths of a folder's files, sorted; empty when there is no such folder.</summary>
    IReadOnlyList<string> List(string folder);

    /// <summary>Takes a lock between processes, which ends with its holder; null while another has it.</summary>
    IDisposable? TryLock(string path);
}

/// <summary>The machine's file system.</summary>
internal sealed class LocalDisk : IDisk
{
    public bool Exists(string path) => File.Exists(path);

    public async Task<byte[]?> ReadAsync(string path)
    {
        try
        {
            return await File.ReadAllBytesAsync(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    public async Task<byte[]> ReadAsync(string path, long start, int length)
    {
        using var file = File.OpenHandle(path, options: FileOptions.Asynchronous);
        var bytes = new byte[length];
        for (var read = 0; read < length;)
        {
            var got = await RandomAccess.ReadAsync(file, bytes.AsMemory(read), start + read);
            read += got > 0 ? got : throw new EndOfStreamException($"'{path}' ends before byte {start + length}.");
        }
        return bytes;
    }

    public Task WriteAsync(string path, ReadOnlyMemory<byte> contents) => AtomicFile.WriteAsync(path, contents);

    public void Append(string path, ReadOnlySpan<byte> contents, bool durable)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, 1);
        var end = file.Seek(0, SeekOrigin.End);
        try
        {
            file.Write(contents);
            file.Flush(flushToDisk: durable);
        }
        catch (IOException)
        {
            // Half a line would run into the next one.
            file.SetLength(end);
            throw;
        }
    }

    public void Delete(string path)
    {
        if (File.Exists(path))
            File.Delete(path);
    }

    public IReadOnlyList<string> List(string folder) => Directory.Exists(folder) ? [.. Directory.GetFiles(folder).Order(StringComparer.Ordinal)] : [];

    public IDisposable? TryLock(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (IOException e) when (e is not (DirectoryNotFoundException or PathTooLongException))
        {
            return null;
        }
    }
}
