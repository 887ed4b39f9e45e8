using System.Buffers;

namespace AdjointDpm.Grains.Storage;

/// <summary>Files that are there in full or not at all: written beside their place, flushed to the disk, then renamed.</summary>
internal static class AtomicFile
{
    public static async Task WriteAsync(string path, ReadOnlyMemory<byte> contents, CancellationToken cancellationToken = default)
    {
        var folder = Path.GetDirectoryName(path)!;
        Directory.CreateDirectory(folder);
        var temporary = Path.Combine(folder, $".{Path.GetFileName(path)}.{Guid.NewGuid():N}");
        try
        {
            await using (var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.Asynchronous))
            {
                await file.WriteAsync(contents, cancellationToken);
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

    public static async Task WriteAsync(string path, ReadOnlySequence<byte> contents, CancellationToken cancellationToken = default) =>
        await WriteAsync(path, contents.IsSingleSegment ? contents.First : contents.ToArray(), cancellationToken);
}
