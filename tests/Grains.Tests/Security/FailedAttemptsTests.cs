using System.Net;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Grains.Tests.Security;

/// <summary>Wrong tokens by address.</summary>
public sealed class FailedAttemptsTests
{
    private static readonly IPAddress Address = IPAddress.Parse("192.0.2.7");
    private readonly FakeTimeProvider _clock = new();

    [Fact]
    public void Tenth_BlocksTheAddressForTheRestOfTheMinute_AndNoOther()
    {
        var failed = new FailedAttempts(_clock);
        for (var i = 1; i <= FailedAttempts.Most; i++)
        {
            Assert.False(failed.IsBlocked(Address));
            Assert.Equal(i == FailedAttempts.Most, failed.Failed(Address));
        }
        Assert.True(failed.IsBlocked(Address));
        Assert.True(failed.IsBlocked(Address.MapToIPv6()));
        Assert.False(failed.IsBlocked(IPAddress.Parse("192.0.2.8")));
        _clock.Advance(FailedAttempts.Window);
        Assert.False(failed.IsBlocked(Address));
        Assert.False(failed.Failed(Address));
    }

    [Fact]
    public void NetOfIPv6_IsOneAddress()
    {
        var failed = new FailedAttempts(_clock);
        for (var i = 0; i < FailedAttempts.Most; i++)
            failed.Failed(IPAddress.Parse(FormattableString.Invariant($"2001:db8::{i + 1:x}")));
        Assert.True(failed.IsBlocked(IPAddress.Parse("2001:db8::ffff")));
        Assert.False(failed.IsBlocked(IPAddress.Parse("2001:db8:0:1::1")));
    }

    [Fact]
    public void ManyAddresses_TakeBoundedRoom()
    {
        var failed = new FailedAttempts(_clock);
        for (var i = 0; i < 50_000; i++)
            failed.Failed(new IPAddress(i + 1L));
        // Those past the bound count together, and are blocked together at most for a minute.
        _clock.Advance(FailedAttempts.Window);
        Assert.False(failed.IsBlocked(new IPAddress(40_000L)));
    }
}
