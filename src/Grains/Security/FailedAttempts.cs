using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace AdjointDpm.Grains.Security;

/// <summary>Wrong tokens by address: after some within a minute its further wrong ones are refused without more ado until the minute is over. Right ones pass: of 256 random bits nobody guesses one, and an address may be that of many.</summary>
internal sealed class FailedAttempts(TimeProvider time)
{
    public const int Most = 10;

    private const int MostAddresses = 10_000;

    public static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<IPAddress, (int Failed, long Since)> _addresses = new();
    private long _swept = time.GetTimestamp();
    private long _total;

    /// <summary>Wrong tokens so far, from wherever.</summary>
    public long Total => Interlocked.Read(ref _total);

    /// <summary>One more, of an address that has to wait.</summary>
    public void Count() => Interlocked.Increment(ref _total);

    /// <summary>Whether the address has to wait.</summary>
    public bool IsBlocked(IPAddress? address) =>
        address is not null && _addresses.TryGetValue(Net(address), out var known) && known.Failed >= Most && time.GetElapsedTime(known.Since) < Window;

    /// <summary>Notes a wrong token. True for the one that blocks the address.</summary>
    public bool Failed(IPAddress? address)
    {
        Count();
        if (address is null)
            return false;
        // Not the time of day, which may jump.
        var now = time.GetTimestamp();
        var net = Net(address);
        if (_addresses.Count >= MostAddresses && !_addresses.ContainsKey(net) && !Sweep(now))
            // So many within a minute are an attack by a crowd, which no list of addresses stops.
            return false;
        return _addresses.AddOrUpdate(net, _ => (1, now), (_, known) => time.GetElapsedTime(known.Since, now) < Window ? (known.Failed + 1, known.Since) : (1, now)).Failed == Most;
    }

    /// <summary>Forgets those whose minute is over, now and then. True when there is room.</summary>
    private bool Sweep(long now)
    {
        var last = Volatile.Read(ref _swept);
        if (time.GetElapsedTime(last, now) < Window / 6 || Interlocked.CompareExchange(ref _swept, now, last) != last)
            return false;
        foreach (var (old, known) in _addresses)
            if (time.GetElapsedTime(known.Since, now) >= Window)
                _addresses.TryRemove(old, out _);
        return _addresses.Count < MostAddresses;
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
