using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace AdjointDpm.Grains.Security;

/// <summary>Wrong tokens by address: after some within a minute the address is not listened to until the minute is over.</summary>
internal sealed class FailedAttempts(TimeProvider time)
{
    public const int Most = 10;

    private const int MostAddresses = 10_000;

    public static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<IPAddress, (int Failed, DateTimeOffset Since)> _addresses = new();

    /// <summary>Whether the address has to wait.</summary>
    public bool IsBlocked(IPAddress? address) =>
        address is not null && _addresses.TryGetValue(Net(address), out var known) && known.Failed >= Most && time.GetUtcNow() - known.Since < Window;

    /// <summary>Notes a wrong token. True for the one that blocks the address.</summary>
    public bool Failed(IPAddress? address)
    {
        if (address is null)
            return false;
        var now = time.GetUtcNow();
        if (_addresses.Count >= MostAddresses)
            foreach (var (old, known) in _addresses)
                if (now - known.Since >= Window)
                    _addresses.TryRemove(old, out _);
        // More addresses than that within a minute are an attack by many; then new ones are not told apart.
        var net = _addresses.Count < MostAddresses ? Net(address) : IPAddress.Any;
        return _addresses.AddOrUpdate(net, _ => (1, now), (_, known) => now - known.Since < Window ? (known.Failed + 1, known.Since) : (1, now)).Failed == Most;
    }

    /// <summary>Who has one IPv6 address has all of its net.</summary>
    private static IPAddress Net(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
            return address.MapToIPv4();
        if (address.AddressFamily != AddressFamily.InterNetworkV6)
            return address;
        var bytes = address.GetAddressBytes();
        bytes.AsSpan(8).Clear();
        return new IPAddress(bytes);
    }
}
