using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>Who did what and when, one JSON object a line, only ever added to.</summary>
/// <remarks>What was done has a line always. Refusals of one user have some a minute, and then one line with their number: who asks in a loop must neither fill the disk nor keep it busy.</remarks>
internal sealed partial class AuditLog(string path, string silo, TimeProvider time, ILogger<AuditLog> logger) : IDisposable
{
    /// <summary>Refusals of one user within a <see cref="Window"/> that have a line each.</summary>
    public const int MostRefusals = 10;

    public const string Refused = "refused";

    public static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };

    private readonly Lock _gate = new();
    private readonly Dictionary<string, (Caller? Caller, long Since, int Count)> _refused = [];
    private FileStream? _file;
    private long _refusals;

    /// <summary>Calls that were refused so far.</summary>
    public long Refusals => Interlocked.Read(ref _refusals);

    /// <summary>Adds a line, on the disk when this returns.</summary>
    /// <param name="caller">Who; null when that is not known.</param>
    /// <param name="action">What, such as <c>submit</c>.</param>
    /// <param name="target">Of what: an experiment, workers, a port.</param>
    /// <param name="outcome"><c>done</c>, <c>refused</c> or <c>failed</c>.</param>
    /// <param name="reason">Why not, or what exactly.</param>
    /// <param name="address">From where.</param>
    public void Add(Caller? caller, string action, string target, string outcome, string? reason = null, string? address = null)
    {
        lock (_gate)
        {
            var now = time.GetTimestamp();
            Sum(known => time.GetElapsedTime(known.Since, now) >= Window);
            if (outcome == Refused && !HasLine(caller, now))
                return;
            Write(caller, action, Short(target), outcome, reason is null ? null : Short(reason), address);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            Sum(_ => true);
            _file?.Dispose();
        }
    }

    private bool HasLine(Caller? caller, long now)
    {
        Interlocked.Increment(ref _refusals);
        var key = caller?.ToText() ?? "";
        var known = _refused.TryGetValue(key, out var found) ? found with { Count = found.Count + 1 } : (Caller: caller, Since: now, Count: 1);
        _refused[key] = known;
        return known.Count <= MostRefusals;
    }

    /// <summary>Writes how many more there were, and forgets them.</summary>
    private void Sum(Func<(Caller? Caller, long Since, int Count), bool> over)
    {
        foreach (var (key, known) in _refused.Where(pair => over(pair.Value)).ToList())
        {
            _refused.Remove(key);
            if (known.Count > MostRefusals)
                Write(known.Caller, "ask", "", Refused, FormattableString.Invariant($"{known.Count - MostRefusals} more within a minute"), null);
        }
    }

    private void Write(Caller? caller, string action, string target, string outcome, string? reason, string? address)
    {
        var entry = new Line(time.GetUtcNow(), silo, caller?.Name, caller?.Project, caller?.Role.ToString().ToLowerInvariant(), action, target, outcome, reason, address);
        var line = JsonSerializer.SerializeToUtf8Bytes(entry, Json);
        try
        {
            if (_file is null)
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                _file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, 1);
            }
            _file.Write([.. line, (byte)'\n']);
            _file.Flush(flushToDisk: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The cluster goes on: a full disk must not keep an admin from cancelling what fills it. The log has the line.
            LogNotWritten(logger, path, e.Message, System.Text.Encoding.UTF8.GetString(line));
        }
    }

    private static string Short(string text) => text.Length <= 500 ? text : text[..500] + "…";

    private sealed record Line(DateTimeOffset Time, string Silo, string? User, string? Project, string? Role, string Action, string Target, string Outcome, string? Reason, string? Address);

    [LoggerMessage(Level = LogLevel.Error, Message = "The audit log {Path} cannot be written ({Reason}): {Line}")]
    private static partial void LogNotWritten(ILogger logger, string path, string reason, string line);
}
