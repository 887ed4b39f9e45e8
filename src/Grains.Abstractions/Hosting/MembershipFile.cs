using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Who is in the cluster, as one JSON file that all silos on a machine share: <c>{data}/cluster/{clusterId}/membership.json</c>.</summary>
/// <remarks>
/// Written by replacing the whole file under a lock, so a reader never sees half of it and needs no lock. Beside it every silo holds
/// an exclusive lock on a file of its own for as long as its process lives; the kernel lets go of it at any death, SIGKILL included,
/// which tells the others at once. Both need a local disk: do not put the folder on a network share.
/// </remarks>
public sealed class MembershipFile
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
    };

    private readonly TimeProvider _time;

    /// <summary>The file of a cluster. Nothing is created before the first <see cref="UpdateAsync"/>.</summary>
    public MembershipFile(string dataFolder, string clusterId, TimeProvider time)
    {
        _time = time;
        Folder = System.IO.Path.GetFullPath(System.IO.Path.Combine(dataFolder, "cluster", clusterId));
        Path = System.IO.Path.Combine(Folder, "membership.json");
    }

    /// <summary>Folder of the file, its lock and the silos' locks.</summary>
    public string Folder { get; }

    /// <summary>The file itself.</summary>
    public string Path { get; }

    /// <summary>The table as it is now; an empty one when there is no file.</summary>
    /// <exception cref="InvalidDataException">The file is not a membership table; the message says what to do.</exception>
    public async Task<MembershipDocument> ReadAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            await using var file = new FileStream(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var document = await JsonSerializer.DeserializeAsync<MembershipDocument>(file, Json, cancellationToken)
                ?? throw new JsonException("it is null");
            return document.Schema <= MembershipDocument.Newest ? document
                : throw new InvalidDataException($"'{Path}' has schema {document.Schema}, but this version of AdjointDpm reads up to {MembershipDocument.Newest}: a newer one wrote it. Run that one.");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return new MembershipDocument();
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"'{Path}' is not a membership table: {e.Message} Stop all silos that use this folder and delete the file.", e);
        }
    }

    /// <summary>Replaces the table by what <paramref name="change"/> makes of it, with all other writers held off. Null leaves it as it is.</summary>
    /// <returns>True when a new table was written.</returns>
    /// <exception cref="TimeoutException">Another process held the lock for ten seconds.</exception>
    public async Task<bool> UpdateAsync(Func<MembershipDocument, MembershipDocument?> change, bool durable = true, CancellationToken cancellationToken = default)
    {
        Directory.CreateDirectory(Folder);
        using var held = await LockAsync(cancellationToken);
        var changed = change(await ReadAsync(cancellationToken));
        if (changed is null)
            return false;
        var temporary = $"{Path}.new";
        await using (var file = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None))
        {
            await JsonSerializer.SerializeAsync(file, changed, Json, cancellationToken);
            // A heartbeat lost in a power cut costs nothing; a lost member does.
            file.Flush(flushToDisk: durable);
        }
        File.Move(temporary, Path, overwrite: true);
        return true;
    }

    /// <summary>Marks this process as alive for <paramref name="silo"/> until the result is disposed or the process ends.</summary>
    public IDisposable HoldLife(SiloAddress silo)
    {
        Directory.CreateDirectory(Folder);
        return new FileStream(LifePath(silo), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
    }

    /// <summary>True when the process that held <see cref="HoldLife"/> for this silo has ended without saying so.</summary>
    public bool IsGone(SiloAddress silo)
    {
        try
        {
            // Shared, so that several silos may ask at once; it fails only against the owner's exclusive lock.
            using var file = new FileStream(LifePath(silo), FileMode.Open, FileAccess.Read, FileShare.Read, 1);
            return true;
        }
        catch (FileNotFoundException)
        {
            return false;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Removes the life file of a silo that is known to be gone.</summary>
    public void Forget(SiloAddress silo) => File.Delete(LifePath(silo));

    private string LifePath(SiloAddress silo) =>
        System.IO.Path.Combine(Folder, $"{silo.ToParsableString().Replace(':', '-').Replace('@', '-')}.alive");

    private async Task<FileStream> LockAsync(CancellationToken cancellationToken)
    {
        var started = _time.GetTimestamp();
        while (true)
        {
            try
            {
                return new FileStream(System.IO.Path.Combine(Folder, "membership.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
            }
            catch (IOException e) when (e is not (DirectoryNotFoundException or PathTooLongException))
            {
                if (_time.GetElapsedTime(started) > TimeSpan.FromSeconds(10))
                    throw new TimeoutException($"Another process has held the lock of '{Path}' for 10 s: {e.Message}", e);
            }
            await Task.Delay(TimeSpan.FromMilliseconds(5), _time, cancellationToken);
        }
    }
}

/// <summary>Contents of a <see cref="MembershipFile"/>.</summary>
public sealed record MembershipDocument
{
    /// <summary>Layout that is written; all up to it are read.</summary>
    internal const int Newest = 1;

    /// <summary>Version of this layout.</summary>
    public int Schema { get; init; } = Newest;

    /// <summary>Grows by one with every change of membership; heartbeats leave it.</summary>
    public int Version { get; init; }

    /// <summary>All members, the dead included until they are cleaned up.</summary>
    public IReadOnlyList<MembershipRow> Silos { get; init; } = [];
}

/// <summary>One silo in a <see cref="MembershipDocument"/>.</summary>
public sealed record MembershipRow
{
    /// <summary>Address and generation in Orleans' parsable form.</summary>
    public required string Address { get; init; }

    /// <summary>Silo name.</summary>
    public required string Name { get; init; }

    /// <summary>Host name.</summary>
    public required string Host { get; init; }

    /// <summary>Status.</summary>
    public required SiloStatus Status { get; init; }

    /// <summary>Port that clients connect to; 0 when it takes none.</summary>
    public int GatewayPort { get; init; }

    /// <summary>When the silo started (UTC).</summary>
    public DateTime StartTime { get; init; }

    /// <summary>Its newest heartbeat (UTC).</summary>
    public DateTime IAmAlive { get; init; }

    /// <summary>Silos that reported it unreachable, and when.</summary>
    public IReadOnlyList<MembershipVote> Votes { get; init; } = [];

    /// <summary>Changes with every write of the row except heartbeats.</summary>
    public required string ETag { get; init; }
}

/// <summary>A report that a silo did not answer.</summary>
/// <param name="Silo">Who reports.</param>
/// <param name="Time">When (UTC).</param>
public sealed record MembershipVote(string Silo, DateTime Time);
