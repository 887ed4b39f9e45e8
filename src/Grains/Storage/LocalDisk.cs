using System.Runtime.InteropServices;

namespace AdjointDpm.Grains.Storage;

/// <summary>The machine's file system.</summary>
internal sealed partial class LocalDisk : IJournalMedium
{
    private const string BootId = "/proc/sys/kernel/random/boot_id";

    /// <summary>Whether this system says enough of itself for a journal.</summary>
    public static bool CanJournal { get; } = OperatingSystem.IsLinux() && File.Exists(BootId);

    public string Boot { get; } = CanJournal ? File.ReadAllText(BootId).Trim() : "";

    public bool Exists(string path) => File.Exists(path);

    public async Task<byte[]?> ReadAsync(string path)
    {
        // Not there is the answer that most trials begin with: too common for an exception.
        if (new FileInfo(path) is not { Exists: true } file)
            return null;
        try
        {
            // A small file is read sooner than another thread begins to read it.
            return file.Length <= JournaledDisk.LongestRecord ? File.ReadAllBytes(path) : await File.ReadAllBytesAsync(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    public async Task<byte[]> ReadFromAsync(string path, long start) =>
        new FileInfo(path) is { Exists: true } file && file.Length > start ? await ReadAsync(path, start, (int)(file.Length - start)) : [];

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

    public async Task WriteAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now, long version = 0)
    {
        await AtomicFile.WriteAsync(path, contents, durability != Durability.Seen);
        // The name as well: a rename alone is in memory.
        if (durability != Durability.Seen)
            SyncFolder(Path.GetDirectoryName(path)!);
    }

    public Task AppendAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now)
    {
        MakeFolder(Path.GetDirectoryName(path)!);
        using var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, 1);
        var end = file.Seek(0, SeekOrigin.End);
        try
        {
            file.Write(contents.Span);
            file.Flush(flushToDisk: durability != Durability.Seen);
            if (end == 0 && durability != Durability.Seen)
                SyncFolder(Path.GetDirectoryName(path)!);
        }
        catch (IOException)
        {
            // Half a line would run into the next one.
            file.SetLength(end);
            throw;
        }
        return Task.CompletedTask;
    }

    public Task WriteAtAsync(string path, long start, ReadOnlyMemory<byte> contents)
    {
        MakeFolder(Path.GetDirectoryName(path)!);
        using var file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        RandomAccess.Write(file, contents.Span, start);
        return Task.CompletedTask;
    }

    public Task DeleteAsync(string path, Durability durability = Durability.Now)
    {
        if (File.Exists(path))
        {
            File.Delete(path);
            if (durability == Durability.Now)
                SyncFolder(Path.GetDirectoryName(path)!);
        }
        return Task.CompletedTask;
    }

    public long LengthOf(string path) => new FileInfo(path) is { Exists: true } file ? file.Length : 0;

    public Task<IReadOnlyList<string>> ListAsync(string folder) =>
        Task.FromResult<IReadOnlyList<string>>(Directory.Exists(folder) ? [.. Directory.GetFiles(folder).Order(StringComparer.Ordinal)] : []);

    public ISlate OpenSlate(string path)
    {
        MakeFolder(Path.GetDirectoryName(path)!);
        return new Slate(File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete));
    }

    public void RemoveSlate(string path) => File.Delete(path);

    public IDisposable? TryLock(string path)
    {
        MakeFolder(Path.GetDirectoryName(path)!);
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (IOException e) when (e is not (DirectoryNotFoundException or PathTooLongException))
        {
            return null;
        }
    }

    public Task SyncAsync(string folder)
    {
        OnFolder(folder, SyncFileSystem);
        return Task.CompletedTask;
    }

    private sealed class Slate(Microsoft.Win32.SafeHandles.SafeFileHandle file) : ISlate
    {
        public void Write(ReadOnlySpan<byte> contents) => RandomAccess.Write(file, contents, 0);

        public void Dispose() => file.Dispose();
    }

    /// <summary>To look is cheaper than to try, which locks the folder above.</summary>
    internal static void MakeFolder(string folder)
    {
        if (!Directory.Exists(folder))
            Directory.CreateDirectory(folder);
    }

    /// <summary>Brings the names in a folder to the disk.</summary>
    internal static void SyncFolder(string folder)
    {
        if (OperatingSystem.IsLinux())
            OnFolder(folder, Sync);
    }

    // .NET opens no folders.
    private static void OnFolder(string folder, Func<int, int> sync)
    {
        const int ReadOnlyFolderClosedOnExec = 0x10000 | 0x80000;
        var file = Open(folder, ReadOnlyFolderClosedOnExec);
        try
        {
            if (file < 0 || sync(file) != 0)
                throw new IOException($"'{folder}' could not be brought to the disk: {Marshal.GetLastPInvokeErrorMessage()}");
        }
        finally
        {
            if (file >= 0)
                _ = Close(file);
        }
    }

    [LibraryImport("libc.so.6", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc.so.6", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Sync(int file);

    [LibraryImport("libc.so.6", EntryPoint = "syncfs", SetLastError = true)]
    private static partial int SyncFileSystem(int file);

    [LibraryImport("libc.so.6", EntryPoint = "close")]
    private static partial int Close(int file);
}
