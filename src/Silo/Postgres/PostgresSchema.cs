using System.ComponentModel.DataAnnotations;
using Npgsql;

namespace AdjointDpm.Silo.Postgres;

/// <summary>Makes the tables of a cluster in a PostgreSQL database, so that an empty database is all there has to be.</summary>
internal static class PostgresSchema
{
    /// <summary>Any number that nobody else in the database locks: silos that start together make the tables one after the other.</summary>
    private const long StartLock = 0x41646A6F696E7444;

    /// <summary>Makes what is missing. A role without the right to make tables is fine once they are there.</summary>
    /// <exception cref="ValidationException">The database cannot be reached, or the tables cannot be made.</exception>
    public static async Task EnsureAsync(string connectionString, CancellationToken cancellationToken)
    {
        var where = Describe(connectionString);
        try
        {
            await using var source = NpgsqlDataSource.Create(connectionString);
            if (await IsCurrentAsync(source, cancellationToken))
                return;
            await using var connection = await source.OpenConnectionAsync(cancellationToken);
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            await ExecuteAsync(connection, "SELECT pg_advisory_xact_lock(@p)", [StartLock], cancellationToken);
            await ExecuteAsync(connection, Script(), [], cancellationToken);
            foreach (var (key, text) in PostgresQueries.All)
                await ExecuteAsync(connection, "INSERT INTO OrleansQuery (QueryKey, QueryText) VALUES (@p, @q) ON CONFLICT (QueryKey) DO UPDATE SET QueryText = excluded.QueryText", [key, text], cancellationToken);
            await transaction.CommitAsync(cancellationToken);
        }
        catch (Exception e) when (e is NpgsqlException or TimeoutException)
        {
            throw new ValidationException($"Cluster:Provider is postgres, but its tables in {where} could not be reached or made: {e.Message} Check Cluster:PostgresConnection, that the server runs, and that the role may create tables (or run src/Silo/Postgres/schema.sql as one that may).", e);
        }
    }

    private static async Task<bool> IsCurrentAsync(NpgsqlDataSource source, CancellationToken cancellationToken)
    {
        await using var exists = source.CreateCommand("SELECT to_regclass('orleansquery') IS NOT NULL AND to_regclass('orleansstorage_grain') IS NOT NULL");
        if (await exists.ExecuteScalarAsync(cancellationToken) is not true)
            return false;
        await using var command = source.CreateCommand("SELECT QueryKey, QueryText FROM OrleansQuery");
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var stored = new Dictionary<string, string>();
        while (await reader.ReadAsync(cancellationToken))
            stored[reader.GetString(0)] = reader.GetString(1);
        return PostgresQueries.All.All(query => stored.GetValueOrDefault(query.Key) == query.Value);
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string text, object[] values, CancellationToken cancellationToken)
    {
        await using var command = new NpgsqlCommand(text, connection);
        for (var i = 0; i < values.Length; i++)
            command.Parameters.AddWithValue(i == 0 ? "p" : "q", values[i]);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private static string Script()
    {
        using var reader = new StreamReader(typeof(PostgresSchema).Assembly.GetManifestResourceStream("schema.sql")!);
        return reader.ReadToEnd();
    }

    /// <summary>Host and database, never the password.</summary>
    private static string Describe(string connectionString)
    {
        try
        {
            var parsed = new NpgsqlConnectionStringBuilder(connectionString);
            return $"database '{parsed.Database}' on '{parsed.Host}:{parsed.Port}'";
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException)
        {
            throw new ValidationException($"Cluster:PostgresConnection is not a connection string: {e.Message} Give it as Host=…;Database=…;Username=…;Password=….", e);
        }
    }
}
