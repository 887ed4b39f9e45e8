using System.Net;
using System.Net.Sockets;

namespace AdjointDpm.Silo;

internal static class FreePort
{
    /// <summary>The port itself, or one that is free now when 0 was asked for.</summary>
    public static int Or(int port, IPAddress address)
    {
        if (port != 0)
            return port;
        using var listener = new TcpListener(address, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
