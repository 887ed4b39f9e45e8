using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>Who did what and when, one JSON object a line, only ever added to.</summary>
internal sealed partial class AuditLog(string path, string silo, TimeProvider time, ILogger<AuditLog> logger) : IDisposable
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };

    private readonly Lock _gate = new();
    private FileStream? _file;

    /// <summary>Adds a line, on the disk when this returns.</summary>
    /// <param name="caller">Who; null when that is not known.</param>
    /// <param name="action">What, such as <c>submit</c>.</param>
    /// <param name="target">Of what: an experiment, workers, a port.</param>
    /// <param name="outcome"><c>done</c>, <c>refused</c> or <c>failed</c>.</param>
    /// <param name="reason">Why not, or what exactly.</param>
    /// <param name="address">From where.</param>
    public void Add(Caller? caller, string action, string target, string outcome, string? reason = null, string? address = null)
    {
        var line = JsonSerializer.SerializeToUtf8Bytes(new Line(time.GetUtcNow(), silo, caller?.Name, caller?.Project, caller?.Role.ToString().ToLowerInvariant(), action, Short(target), outcome, reason is null ? null : Short(reason), address), Json);
        lock (_gate)
        {
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
    }

    public void Dispose()
    {
        lock (_gate)
            _file?.Dispose();
    }

    private static string Short(string text) => text.Length <= 500 ? text : text[..500] + "…";

    private sealed record Line(DateTimeOffset Time, string Silo, string? User, string? Project, string? Role, string Action, string Target, string Outcome, string? Reason, string? Address);

    [LoggerMessage(Level = LogLevel.Error, Message = "The audit log {Path} cannot be written ({Reason}): {Line}")]
    private static partial void LogNotWritten(ILogger logger, string path, string reason, string line);
}
