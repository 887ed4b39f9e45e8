using System.Net;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Tests.Storage;

public sealed class FileMembershipTableTests : IDisposable
{
    private static readonly DateTime Now = new(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc);
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-membership-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Insert_Update_AndHeartbeat_FollowTheVersion()
    {
        using var table = New();
        await table.InitializeMembershipTable(true);
        var empty = await table.ReadAll();
        Assert.Empty(empty.Members);

        var entry = Entry(1);
        Assert.True(await table.InsertRow(entry, empty.Version.Next()));
        Assert.False(await table.InsertRow(Entry(2), empty.Version.Next()));
        var one = await table.ReadAll();
        Assert.Equal(1, one.Version.Version);
        var (read, etag) = Assert.Single(one.Members);
        Assert.Equal(entry.ToFullString(), read.ToFullString());

        entry.Status = SiloStatus.Active;
        entry.AddSuspector(Entry(9).SiloAddress, Now);
        Assert.True(await table.UpdateRow(entry, etag, one.Version.Next()));
        Assert.False(await table.UpdateRow(entry, etag, one.Version.Next()));
        entry.IAmAliveTime = Now.AddMinutes(1);
        await table.UpdateIAmAlive(entry);
        var two = await table.ReadRow(entry.SiloAddress);
        Assert.Equal(2, two.Version.Version);
        Assert.Equal(SiloStatus.Active, two.Members[0].Item1.Status);
        Assert.Equal(Now.AddMinutes(1), two.Members[0].Item1.IAmAliveTime);
        Assert.Single(two.Members[0].Item1.SuspectTimes!);
    }

    [Fact]
    public async Task ManySilosJoinAtOnce_AndAllAreThere()
    {
        await Parallel.ForAsync(1, 9, TestContext.Current.CancellationToken, async (i, _) =>
        {
            // Its own table, as another process would have; kept open, for a silo whose table is gone is gone.
            var table = New();
            for (var joined = false; !joined;)
                joined = await table.InsertRow(Entry(i), (await table.ReadAll()).Version.Next());
        });
        using var reader = New();
        var all = await reader.ReadAll();
        Assert.Equal(8, all.Members.Count);
        Assert.Equal(8, all.Version.Version);
    }

    [Fact]
    public async Task SiloWhoseProcessEnds_IsDeadForTheOthersAtOnce_AndNoGateway()
    {
        using var survivor = New();
        var dying = New();
        await survivor.InsertRow(Entry(1, SiloStatus.Active), (await survivor.ReadAll()).Version.Next());
        await dying.InsertRow(Entry(2, SiloStatus.Active), (await dying.ReadAll()).Version.Next());
        var gateways = new FileGatewayListProvider(File());
        Assert.Equal(2, (await gateways.GetGateways()).Count);

        // A kill leaves the file and drops the lock; a leftover without a holder looks just so.
        dying.Dispose();
        await System.IO.File.WriteAllBytesAsync(Directory.GetFiles(File().Folder, "*.alive").Length == 1 ? LifeOf(2) : throw new InvalidOperationException("The lock was not let go."), [], TestContext.Current.CancellationToken);
        Assert.Single(await gateways.GetGateways());
        var table = await survivor.ReadAll();
        Assert.Equal(3, table.Version.Version);
        Assert.Equal(SiloStatus.Dead, table.TryGet(Entry(2).SiloAddress)!.Item1.Status);
        Assert.Equal(SiloStatus.Active, table.TryGet(Entry(1).SiloAddress)!.Item1.Status);
    }

    [Fact]
    public async Task Cleanup_DropsOldDeadOnly()
    {
        using var table = New();
        await table.InsertRow(Entry(1, SiloStatus.Dead), (await table.ReadAll()).Version.Next());
        await table.InsertRow(Entry(2, SiloStatus.Active), (await table.ReadAll()).Version.Next());
        await table.CleanupDefunctSiloEntries(new DateTimeOffset(Now.AddDays(-1)));
        Assert.Equal(2, (await table.ReadAll()).Members.Count);
        await table.CleanupDefunctSiloEntries(new DateTimeOffset(Now.AddDays(1)));
        Assert.Equal(Entry(2).SiloAddress, Assert.Single((await table.ReadAll()).Members).Item1.SiloAddress);
    }

    [Fact]
    public async Task BrokenFile_SaysWhatToDo()
    {
        Directory.CreateDirectory(File().Folder);
        await System.IO.File.WriteAllTextAsync(File().Path, "{", TestContext.Current.CancellationToken);
        using var table = New();
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => table.ReadAll());
        Assert.Contains("Stop all silos that use this folder and delete the file", error.Message, StringComparison.Ordinal);
    }

    private string LifeOf(int i) => Path.Combine(File().Folder, Entry(i).SiloAddress.ToParsableString().Replace(':', '-').Replace('@', '-') + ".alive");

    private MembershipFile File() => new(_folder, "c", TimeProvider.System);

    private FileMembershipTable New() => new(File());

    private static MembershipEntry Entry(int i, SiloStatus status = SiloStatus.Joining) => new()
    {
        SiloAddress = SiloAddress.New(new IPEndPoint(IPAddress.Loopback, 11110 + i), i),
        SiloName = $"silo-{i}",
        HostName = "host",
        Status = status,
        ProxyPort = 30000 + i,
        StartTime = Now,
        IAmAliveTime = Now,
        SuspectTimes = [],
    };
}
