using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>The secret by which silos know calls of each other from calls of clients, who can write any sender into a message. One line a key: the first is shown, all are accepted, so that keys can be changed.</summary>
internal sealed class ClusterKey(string path, TimeProvider time, ILogger logger)
{
    /// <summary>Entry of the request context that a call inside the cluster carries it in.</summary>
    public const string Entry = "adjointdpm.cluster";

    private const int LeastLength = 32;

    private readonly Reloaded<string[]> _keys = new([path], () => Load(path), time, logger);

    public string Shown => _keys.Value[0];

    public bool Accepts(object? shown)
    {
        if (shown is not string text)
            return false;
        var bytes = Encoding.UTF8.GetBytes(text);
        var accepted = false;
        foreach (var key in _keys.Value)
            accepted |= CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(key), bytes);
        return accepted;
    }

    private static string[] Load(string path)
    {
        try
        {
            var keys = File.ReadAllLines(path).Select(line => line.Trim()).Where(line => line.Length > 0).ToArray();
            return keys.Length > 0 && keys.All(key => key.Length >= LeastLength) ? keys
                : throw new InvalidDataException($"The cluster key '{path}' must have lines of at least {LeastLength} characters. 'adpm certificates DIR' makes one.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"The cluster key '{path}' cannot be read: {e.Message} 'adpm certificates DIR' makes one; all silos need the same.", e);
        }
    }
}
