using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using AdjointDpm.Grains.Audit;
using Orleans.Storage;

namespace AdjointDpm.Grains.Storage;

/// <summary>Grain state in one JSON file per grain: survives restarts and needs nothing installed.</summary>
/// <remarks>
/// The first line of a file is its version, which is the ETag; the rest is the state. A write happens under a lock file, so the
/// compare-and-swap holds between processes on one machine. Not for network shares: their locks are not to be relied on.
/// </remarks>
internal sealed class FileGrainStorage(string folder, TimeProvider time, IDisk disk) : IGrainStorage
{
    internal static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        // A NaN loss is a fact to be kept, not a reason to lose the state.
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        // A spec inside a state is half quotes, which six characters each would make three times as long.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public async Task ReadStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState)
    {
        var (version, body) = await ReadAsync(PathOf(stateName, grainId));
        if (version is null)
        {
            Reset(grainState);
            return;
        }
        grainState.State = StateSerializer.Read<T>(body.Span, PathOf(stateName, grainId));
        grainState.ETag = version;
        grainState.RecordExists = true;
    }

    public Task WriteStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState) =>
        UnderLockAsync(PathOf(stateName, grainId), async path =>
        {
            var (stored, _) = await ReadAsync(path);
            RequireSame(stored, grainState.ETag, grainId);
            var version = stored is null ? 1 : long.Parse(stored, CultureInfo.InvariantCulture) + 1;
            var next = version.ToString(CultureInfo.InvariantCulture);
            var contents = new ArrayBufferWriter<byte>();
            contents.Write(Encoding.ASCII.GetBytes(next + "\n"));
            StateSerializer.Write(contents, grainState.State);
            await disk.WriteAsync(path, contents.WrittenMemory, Durability.Now, version);
            grainState.ETag = next;
            grainState.RecordExists = true;
        });

    public Task ClearStateAsync<T>(string stateName, GrainId grainId, IGrainState<T> grainState) =>
        UnderLockAsync(PathOf(stateName, grainId), async path =>
        {
            var (stored, _) = await ReadAsync(path);
            RequireSame(stored, grainState.ETag, grainId);
            await disk.DeleteAsync(path);
            Reset(grainState);
        });

    private static void Reset<T>(IGrainState<T> grainState)
    {
        // Without a fresh instance and a null ETag the first write after a clear would conflict with itself.
        grainState.State = Activator.CreateInstance<T>();
        grainState.ETag = null;
        grainState.RecordExists = false;
    }

    private static void RequireSame(string? stored, string? expected, GrainId grainId)
    {
        if (stored != expected)
            throw new InconsistentStateException($"The state of {grainId} was changed by another activation.", stored ?? "none", expected ?? "none");
    }

    private async Task<(string? Version, ReadOnlyMemory<byte> Body)> ReadAsync(string path)
    {
        if (await disk.ReadAsync(path) is not { } contents)
            return (null, default);
        var end = Array.IndexOf(contents, (byte)'\n');
        if (end <= 0)
            throw new InvalidDataException($"'{path}' is not a state file: its first line must be a version. Restore it from a backup or delete it.");
        return (Encoding.ASCII.GetString(contents, 0, end), contents.AsMemory(end + 1));
    }

    private string PathOf(string stateName, GrainId grainId) => RunFolder.StatePath(folder, stateName, grainId.ToString());

    private async Task UnderLockAsync(string path, Func<string, Task> write)
    {
        var started = time.GetTimestamp();
        while (true)
        {
            using var held = disk.TryLock(path + ".lock");
            if (held is not null)
            {
                await write(path);
                return;
            }
            if (time.GetElapsedTime(started) > TimeSpan.FromSeconds(5))
                throw new TimeoutException($"Another process has held the lock of '{path}' for 5 s.");
            await Task.Delay(TimeSpan.FromMilliseconds(5), time);
        }
    }
}
