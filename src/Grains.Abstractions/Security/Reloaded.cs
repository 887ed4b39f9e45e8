using System.Security.Cryptography;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>What small files hold, read again when their contents change. New contents that make no sense are said once, and the old stay in force.</summary>
/// <remarks>Contents and not times are compared: Kubernetes changes a mounted secret by moving a link.</remarks>
internal sealed partial class Reloaded<T>
{
    /// <summary>Files are looked at again after this time at the earliest.</summary>
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(2);

    private readonly string[] _files;
    private readonly Func<T> _load;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private T _value;
    private string _seen;
    private string? _refused;
    private long _looked;

    /// <exception cref="InvalidDataException">What <paramref name="load"/> throws when the files make no sense.</exception>
    public Reloaded(string[] files, Func<T> load, TimeProvider time, ILogger logger)
    {
        (_files, _load, _time, _logger) = (files, load, time, logger);
        (_seen, _value, _looked) = (Fingerprint(), load(), time.GetTimestamp());
    }

    /// <summary>What they hold now, give or take two seconds.</summary>
    public T Value
    {
        get
        {
            lock (_gate)
            {
                if (_time.GetElapsedTime(_looked) < LookAgain)
                    return _value;
                _looked = _time.GetTimestamp();
                var seen = "";
                try
                {
                    seen = Fingerprint();
                    if (seen == _seen)
                        return _value;
                    _value = _load();
                    // Only now: what could not be read for a moment is tried again at the next look.
                    (_seen, _refused) = (seen, null);
                    LogReloaded(_logger, _files[0]);
                }
                catch (Exception e) when (e is InvalidDataException or IOException or UnauthorizedAccessException)
                {
                    if (_refused != seen)
                        LogNotReloaded(_logger, _files[0], e.Message);
                    _refused = seen;
                }
                return _value;
            }
        }
    }

    private string Fingerprint()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in _files)
            hash.AppendData(File.Exists(file) ? SHA256.HashData(File.ReadAllBytes(file)) : [0]);
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{File} or what belongs to it has changed and was read again.")]
    private static partial void LogReloaded(ILogger logger, string file);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{File} or what belongs to it has changed but cannot be used, and what it held before stays in force: {Reason}")]
    private static partial void LogNotReloaded(ILogger logger, string file, string reason);
}
