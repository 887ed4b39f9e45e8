using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace AdjointDpm.Silo;

internal static class FreePort
{
    // Below those that systems give to outgoing connections: one of these could take the port before it is listened on.
    private const int First = 20000, End = 32768;

    /// <summary>The port itself, or one that is free now when 0 was asked for.</summary>
    public static int Or(int port, IPAddress address)
    {
        for (var tries = 0; port == 0; tries++)
        {
            var chosen = RandomNumberGenerator.GetInt32(First, End);
            try
            {
                using var listener = new TcpListener(address, chosen);
                listener.Start();
                port = chosen;
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.AddressAlreadyInUse or SocketError.AccessDenied && tries < 1000)
            {
                // Another one, then.
            }
        }
        return port;
    }
}
