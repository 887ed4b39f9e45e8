using System.Globalization;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Storage;

/// <summary>Cluster membership in a <see cref="MembershipFile"/>: no silo is special, any may be killed and restarted.</summary>
internal sealed class FileMembershipTable(MembershipFile file) : IMembershipTable, IDisposable
{
    private IDisposable? _life;

    public async Task InitializeMembershipTable(bool tryInitTableVersion)
    {
        if (tryInitTableVersion)
            await file.UpdateAsync(table => File.Exists(file.Path) ? null : table);
    }

    public Task DeleteMembershipTableEntries(string clusterId) =>
        file.UpdateAsync(table => table with { Silos = [], Version = table.Version + 1 });

    public Task CleanupDefunctSiloEntries(DateTimeOffset beforeDate) =>
        file.UpdateAsync(table =>
        {
            var kept = table.Silos.Where(row => row.Status == SiloStatus.Active || Newest(row) >= beforeDate.UtcDateTime).ToList();
            return kept.Count == table.Silos.Count ? null : table with { Silos = kept };
        });

    public async Task<MembershipTableData> ReadRow(SiloAddress key)
    {
        var table = await ReadWithoutTheGoneAsync();
        var row = table.Silos.FirstOrDefault(row => row.Address == key.ToParsableString());
        return row is null ? new MembershipTableData(VersionOf(table)) : new MembershipTableData(Entry(row), VersionOf(table));
    }

    public async Task<MembershipTableData> ReadAll()
    {
        var table = await ReadWithoutTheGoneAsync();
        return new MembershipTableData([.. table.Silos.Select(Entry)], VersionOf(table));
    }

    public Task<bool> InsertRow(MembershipEntry entry, TableVersion tableVersion)
    {
        // A silo inserts only itself: from here on its end is seen by all, however it ends.
        _life ??= file.HoldLife(entry.SiloAddress);
        return file.UpdateAsync(table =>
            table.Silos.Any(row => row.Address == entry.SiloAddress.ToParsableString()) || !Same(table, tableVersion)
                ? null
                : table with { Silos = [.. table.Silos, Row(entry, tableVersion.Version)], Version = tableVersion.Version });
    }

    public Task<bool> UpdateRow(MembershipEntry entry, string etag, TableVersion tableVersion) =>
        file.UpdateAsync(table =>
        {
            var index = IndexOf(table, entry.SiloAddress);
            if (index < 0 || table.Silos[index].ETag != etag || !Same(table, tableVersion))
                return null;
            return With(table, index, Row(entry, tableVersion.Version)) with { Version = tableVersion.Version };
        });

    public Task UpdateIAmAlive(MembershipEntry entry) =>
        file.UpdateAsync(table =>
        {
            var index = IndexOf(table, entry.SiloAddress);
            return index < 0 ? null : With(table, index, table.Silos[index] with { IAmAlive = entry.IAmAliveTime });
        }, durable: false);

    public void Dispose() => _life?.Dispose();

    /// <summary>Reads the table; members whose process has ended are declared dead first, without waiting for missed probes.</summary>
    private async Task<MembershipDocument> ReadWithoutTheGoneAsync()
    {
        var table = await file.ReadAsync();
        if (!table.Silos.Any(IsGone))
            return table;
        var gone = new List<SiloAddress>();
        await file.UpdateAsync(current =>
        {
            gone.Clear();
            var version = current.Version + 1;
            var rows = new List<MembershipRow>(current.Silos.Count);
            foreach (var row in current.Silos)
            {
                if (IsGone(row))
                {
                    gone.Add(SiloAddress.FromParsableString(row.Address));
                    rows.Add(row with { Status = SiloStatus.Dead, ETag = ETag(version) });
                }
                else
                    rows.Add(row);
            }
            return gone.Count == 0 ? null : current with { Silos = rows, Version = version };
        });
        foreach (var silo in gone)
            file.Forget(silo);
        return await file.ReadAsync();
    }

    private bool IsGone(MembershipRow row) => row.Status != SiloStatus.Dead && file.IsGone(SiloAddress.FromParsableString(row.Address));

    private static DateTime Newest(MembershipRow row) =>
        row.Votes.Select(vote => vote.Time).Append(row.StartTime).Append(row.IAmAlive).Max();

    private static int IndexOf(MembershipDocument table, SiloAddress silo)
    {
        var address = silo.ToParsableString();
        for (var i = 0; i < table.Silos.Count; i++)
            if (table.Silos[i].Address == address)
                return i;
        return -1;
    }

    private static MembershipDocument With(MembershipDocument table, int index, MembershipRow row)
    {
        var rows = table.Silos.ToArray();
        rows[index] = row;
        return table with { Silos = rows };
    }

    private static bool Same(MembershipDocument table, TableVersion next) => next.VersionEtag == ETag(table.Version) && next.Version == table.Version + 1;

    private static TableVersion VersionOf(MembershipDocument table) => new(table.Version, ETag(table.Version));

    private static string ETag(int version) => version.ToString(CultureInfo.InvariantCulture);

    private static MembershipRow Row(MembershipEntry entry, int version) => new()
    {
        Address = entry.SiloAddress.ToParsableString(),
        Name = entry.SiloName,
        Host = entry.HostName,
        Status = entry.Status,
        GatewayPort = entry.ProxyPort,
        StartTime = entry.StartTime,
        IAmAlive = entry.IAmAliveTime,
        Votes = [.. (entry.SuspectTimes ?? []).Select(vote => new MembershipVote(vote.Item1.ToParsableString(), vote.Item2))],
        ETag = ETag(version),
    };

    private static Tuple<MembershipEntry, string> Entry(MembershipRow row) => Tuple.Create(new MembershipEntry
    {
        SiloAddress = SiloAddress.FromParsableString(row.Address),
        SiloName = row.Name,
        HostName = row.Host,
        Status = row.Status,
        ProxyPort = row.GatewayPort,
        StartTime = row.StartTime,
        IAmAliveTime = row.IAmAlive,
        SuspectTimes = [.. row.Votes.Select(vote => Tuple.Create(SiloAddress.FromParsableString(vote.Silo), vote.Time))],
    }, row.ETag);
}
