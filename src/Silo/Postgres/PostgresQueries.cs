namespace AdjointDpm.Silo.Postgres;

/// <summary>The statements that Orleans' relational providers look up by key, with the parameter and column names of their contract.</summary>
/// <remarks>Each is one statement, hence atomic without a transaction of its own: a change of the members happens if, and only if, the version it was made from still holds.</remarks>
internal static class PostgresQueries
{
    private const string SameSilo = "DeploymentId = @DeploymentId AND Address = @Address AND Port = @Port AND Generation = @Generation";

    // Null parameters carry no type of their own.
    private const string SameGrain = """
        ServiceId = @ServiceId AND GrainTypeString = @GrainTypeString AND GrainIdN0 = @GrainIdN0 AND GrainIdN1 = @GrainIdN1
        AND coalesce(GrainIdExtensionString, '') = coalesce(@GrainIdExtensionString::varchar, '')
        """;

    private const string Members = """
        SELECT v.DeploymentId, m.Address, m.Port, m.Generation, m.SiloName, m.HostName, m.Status, m.ProxyPort, m.SuspectTimes, m.StartTime, m.IAmAliveTime, v.Version
        FROM OrleansMembershipVersionTable v LEFT JOIN OrleansMembershipTable m ON m.DeploymentId = v.DeploymentId
        """;

    public static IReadOnlyDictionary<string, string> All { get; } = new Dictionary<string, string>
    {
        ["InsertMembershipVersionKey"] = """
            WITH added AS (INSERT INTO OrleansMembershipVersionTable (DeploymentId) VALUES (@DeploymentId) ON CONFLICT DO NOTHING RETURNING 1)
            SELECT count(*)::integer FROM added
            """,
        ["InsertMembershipKey"] = $"""
            WITH raised AS
            (
                UPDATE OrleansMembershipVersionTable SET Version = Version + 1, Timestamp = now()
                WHERE DeploymentId = @DeploymentId AND Version = @Version AND NOT EXISTS (SELECT 1 FROM OrleansMembershipTable WHERE {SameSilo})
                RETURNING 1
            ), added AS
            (
                INSERT INTO OrleansMembershipTable (DeploymentId, Address, Port, Generation, SiloName, HostName, Status, ProxyPort, StartTime, IAmAliveTime)
                SELECT @DeploymentId, @Address, @Port, @Generation, @SiloName, @HostName, @Status, @ProxyPort, @StartTime, @IAmAliveTime FROM raised
                RETURNING 1
            )
            SELECT count(*)::integer FROM added
            """,
        ["UpdateMembershipKey"] = $"""
            WITH raised AS
            (
                UPDATE OrleansMembershipVersionTable SET Version = Version + 1, Timestamp = now()
                WHERE DeploymentId = @DeploymentId AND Version = @Version AND EXISTS (SELECT 1 FROM OrleansMembershipTable WHERE {SameSilo})
                RETURNING 1
            ), changed AS
            (
                UPDATE OrleansMembershipTable SET Status = @Status, SuspectTimes = @SuspectTimes, IAmAliveTime = @IAmAliveTime
                FROM raised WHERE {SameSilo}
                RETURNING 1
            )
            SELECT count(*)::integer FROM changed
            """,
        ["UpdateIAmAlivetimeKey"] = $"UPDATE OrleansMembershipTable SET IAmAliveTime = @IAmAliveTime WHERE {SameSilo}",
        ["MembershipReadRowKey"] = $"{Members} AND m.Address = @Address AND m.Port = @Port AND m.Generation = @Generation WHERE v.DeploymentId = @DeploymentId",
        ["MembershipReadAllKey"] = $"{Members} WHERE v.DeploymentId = @DeploymentId",
        ["GatewaysQueryKey"] = "SELECT Address, ProxyPort, Generation FROM OrleansMembershipTable WHERE DeploymentId = @DeploymentId AND Status = @Status AND ProxyPort > 0",
        ["DeleteMembershipTableEntriesKey"] = """
            WITH members AS (DELETE FROM OrleansMembershipTable WHERE DeploymentId = @DeploymentId)
            DELETE FROM OrleansMembershipVersionTable WHERE DeploymentId = @DeploymentId
            """,
        // Status 3 is an active silo.
        ["CleanupDefunctSiloEntriesKey"] = "DELETE FROM OrleansMembershipTable WHERE DeploymentId = @DeploymentId AND Status <> 3 AND IAmAliveTime < @IAmAliveTime",
        ["ReadFromStorageKey"] = $"SELECT PayloadBinary, ModifiedOn, Version FROM OrleansStorage WHERE {SameGrain}",
        // Answering the version that was expected says that nothing was written: Orleans raises InconsistentStateException.
        ["WriteToStorageKey"] = $"""
            WITH changed AS
            (
                UPDATE OrleansStorage SET PayloadBinary = @PayloadBinary, ModifiedOn = now(), Version = Version + 1
                WHERE {SameGrain} AND Version = @GrainStateVersion::integer
                RETURNING Version
            ), added AS
            (
                INSERT INTO OrleansStorage (ServiceId, GrainTypeHash, GrainTypeString, GrainIdHash, GrainIdN0, GrainIdN1, GrainIdExtensionString, PayloadBinary, Version)
                SELECT @ServiceId, @GrainTypeHash, @GrainTypeString, @GrainIdHash, @GrainIdN0, @GrainIdN1, @GrainIdExtensionString, @PayloadBinary, 1
                WHERE @GrainStateVersion::integer IS NULL
                ON CONFLICT DO NOTHING
                RETURNING Version
            )
            SELECT coalesce((SELECT Version FROM changed), (SELECT Version FROM added), @GrainStateVersion::integer) AS NewGrainStateVersion
            """,
        ["ClearStorageKey"] = $"""
            UPDATE OrleansStorage SET PayloadBinary = NULL, ModifiedOn = now(), Version = Version + 1
            WHERE {SameGrain} AND Version = @GrainStateVersion::integer
            RETURNING Version AS NewGrainStateVersion
            """,
        ["DeleteStorageKey"] = $"DELETE FROM OrleansStorage WHERE {SameGrain} AND Version = @GrainStateVersion::integer RETURNING Version + 1 AS NewGrainStateVersion",
    };
}
