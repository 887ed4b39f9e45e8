using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace AdjointDpm.Grains.Hosting;

/// <summary>The line that a silo writes to standard output once it is an active member and its HTTP endpoints answer.</summary>
/// <param name="Ready">Always true; other lines are not this record.</param>
/// <param name="Name">Silo name.</param>
/// <param name="ProcessId">Operating system's process id.</param>
/// <param name="Address">Advertised IP address.</param>
/// <param name="SiloPort">Port of silo-to-silo traffic.</param>
/// <param name="GatewayPort">Port that clients connect to.</param>
/// <param name="HttpPort">Port of metrics and health.</param>
/// <param name="DataFolder">Absolute path of the data folder.</param>
/// <param name="TensorPort">Port that silos fetch each other's large tensors from.</param>
public sealed record SiloReady(bool Ready, string Name, int ProcessId, string Address, int SiloPort, int GatewayPort, int HttpPort, string DataFolder, int TensorPort = 0)
{
    /// <summary>One line of JSON, without a line break.</summary>
    public string ToLine() => JsonSerializer.Serialize(this, JsonSerializerOptions.Web);

    /// <summary>Reads a line of a silo's standard output; false for any other line.</summary>
    public static bool TryParse(string? line, [NotNullWhen(true)] out SiloReady? ready)
    {
        ready = null;
        if (line is null || !line.StartsWith("{\"ready\":true", StringComparison.Ordinal))
            return false;
        try
        {
            ready = JsonSerializer.Deserialize<SiloReady>(line, JsonSerializerOptions.Web);
        }
        catch (JsonException)
        {
            return false;
        }
        return ready is not null;
    }
}
