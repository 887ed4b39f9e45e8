using System.Diagnostics;
using Npgsql;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>PostgreSQL as it comes: an empty database, and a role that owns it.</summary>
internal sealed class PostgresServer : StorageServer
{
    private const string Programs = "/usr/lib/postgresql/15/bin/";
    private readonly DebianPackages _packages;

    private PostgresServer(DebianPackages packages) => _packages = packages;

    public override string[] SiloSettings => ["--Cluster:Provider=postgres", $"--Cluster:PostgresConnection={ConnectionString}"];

    public string ConnectionString => $"Host=127.0.0.1;Port={PortText};Database=postgres;Username=adjointdpm;Timeout=3";

    public override string[] BackupArguments => ["postgres", Named];

    public override (string[] Arguments, bool Running)? Restoring => (["postgres", Named], true);

    public override (string Folder, Dictionary<string, string> Variables) Tools => (Path.GetDirectoryName(_packages.PathOf(Programs + "pg_dump"))!, _packages.Variables);

    private string Named => $"host=127.0.0.1 port={PortText} dbname=postgres user=adjointdpm";

    private string Data => Path.Combine(Folder, "data");

    public static async Task<PostgresServer> CreateAsync()
    {
        var server = new PostgresServer(await DebianPackages.WithAsync(Programs + "postgres", "postgresql-15"));
        if (Environment.IsPrivilegedProcess)
        {
            using var owner = Process.Start("chown", ["65534:65534", server.Folder]);
            await owner.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        using var made = server._packages.Start(Programs + "initdb", unprivileged: true, "--pgdata", server.Data, "--username", "adjointdpm", "--auth", "trust", "--no-sync");
        var (said, error) = (made.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), made.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
        await made.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(made.ExitCode == 0, $"initdb ended with code {made.ExitCode}:\n{await said}\n{await error}");
        return server;
    }

    protected override Process Run() => _packages.Start(Programs + "postgres", unprivileged: true, "-D", Data, "-h", "127.0.0.1", "-p", PortText, "-k", Folder);

    protected override async Task<bool> AnswersAsync()
    {
        try
        {
            await using var connection = new NpgsqlConnection(ConnectionString + ";Pooling=false");
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            return true;
        }
        catch (NpgsqlException)
        {
            return false;
        }
    }
}
