namespace AdjointDpm.Grains.Storage;

/// <summary>Files that are there in full or not at all: written beside their place, flushed to the disk when they must be, then renamed.</summary>
internal static class AtomicFile
{
    public static async Task WriteAsync(string path, ReadOnlyMemory<byte> contents, bool durable)
    {
        var folder = Path.GetDirectoryName(path)!;
        LocalDisk.MakeFolder(folder);
        var temporary = Path.Combine(folder, $".{Path.GetFileName(path)}.{Guid.NewGuid():N}");
        try
        {
            // Small files are written faster than a write is handed to another thread.
            await using (var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, contents.Length > 1 << 20 ? FileOptions.Asynchronous : FileOptions.None))
            {
                if (file.IsAsync)
                    await file.WriteAsync(contents);
                else
                    file.Write(contents.Span);
                if (durable)
                    file.Flush(flushToDisk: true);
            }
            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }
}
