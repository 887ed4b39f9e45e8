namespace AdjointDpm.Grains.Storage;

/// <summary>When something must be on the disk.</summary>
internal enum Durability
{
    /// <summary>On return.</summary>
    Now,

    /// <summary>No later than what is asked for afterwards with <see cref="Now"/>, grain state included; on return nothing may be there yet, and only this disk sees it.</summary>
    BeforeTheNext,

    /// <summary>Seen by all on return; after a power cut perhaps gone.</summary>
    Seen,
}

/// <summary>What coordinators and grain state need of a disk: few operations with known behaviour in a crash.</summary>
internal interface IDisk
{
    bool Exists(string path);

    /// <summary>The whole file; null when there is none.</summary>
    Task<byte[]?> ReadAsync(string path);

    /// <summary>A run of a file's bytes.</summary>
    /// <exception cref="IOException">The file is missing or too short.</exception>
    Task<byte[]> ReadAsync(string path, long start, int length);

    /// <summary>A file's bytes from a place to its end; none where there is no such place.</summary>
    async Task<byte[]> ReadFromAsync(string path, long start) => await ReadAsync(path) is { } bytes && bytes.Length > start ? bytes[(int)start..] : [];

    /// <summary>Replaces the whole file: afterwards, and after a crash at any moment, it is the old one or the new one.</summary>
    /// <param name="path">File; made when missing. Several silos may write it in turn only when it has versions, or when all write the same.</param>
    /// <param name="contents">Must not change any more.</param>
    /// <param name="durability">When it must be on the disk.</param>
    /// <param name="version">Of a file that begins with its version as a line: that version.</param>
    Task WriteAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now, long version = 0);

    /// <summary>Adds to the end, in the order of the calls. A crash may leave a beginning of it; an error leaves nothing.</summary>
    /// <param name="path">File; made when missing. Only one silo adds to it.</param>
    /// <param name="contents">What is added; must not change any more.</param>
    /// <param name="durability">When it must be on the disk.</param>
    Task AppendAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now);

    /// <summary>Removes a file if it is there.</summary>
    Task DeleteAsync(string path, Durability durability = Durability.Now);

    /// <summary>Paths of a folder's files, sorted; empty when there is no such folder.</summary>
    Task<IReadOnlyList<string>> ListAsync(string folder);

    /// <summary>Makes a slate, which no other process writes on.</summary>
    ISlate OpenSlate(string path);

    /// <summary>Removes a slate if it is there, at once.</summary>
    void RemoveSlate(string path);

    /// <summary>Takes a lock between processes, which ends with its holder; null while another has it.</summary>
    IDisposable? TryLock(string path);
}

/// <summary>A file of a few bytes that one process writes over again and again: at once, past the order of everything else, and without a flush. What stands there when the process ends stays there; after a power cut anything may.</summary>
internal interface ISlate : IDisposable
{
    /// <summary>Seen by all on return.</summary>
    /// <param name="contents">As long as those before.</param>
    void Write(ReadOnlySpan<byte> contents);
}

/// <summary>What a <see cref="JournaledDisk"/> needs of the disk below it.</summary>
internal interface IJournalMedium : IDisk
{
    /// <summary>Another one after every start of the machine: what was not on the disk before it is gone.</summary>
    string Boot { get; }

    /// <summary>Length of a file; 0 when there is none.</summary>
    long LengthOf(string path);

    /// <summary>Puts bytes at a place in a file, which is made or grows; seen by all on return.</summary>
    Task WriteAtAsync(string path, long start, ReadOnlyMemory<byte> contents);

    /// <summary>Brings everything that was seen before the call, files and their names, to the disk that a folder lies on.</summary>
    Task SyncAsync(string folder);
}
