using System.Diagnostics;
using StackExchange.Redis;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>Redis with its append-only file flushed before each answer, as docs/cluster.md asks for.</summary>
internal sealed class RedisServer : StorageServer
{
    private const string Program = "/usr/bin/redis-server";
    private readonly DebianPackages _packages;

    private readonly RedisServer? _primary;

    private RedisServer(DebianPackages packages, RedisServer? primary) => (_packages, _primary) = (packages, primary);

    /// <summary>Host and port.</summary>
    public string Address => $"127.0.0.1:{PortText}";

    public override string[] SiloSettings => ["--Cluster:Provider=redis", $"--Cluster:RedisConnection=127.0.0.1:{PortText},abortConnect=false"];

    /// <param name="of">The server that it is a replica of; null: of none.</param>
    public static async Task<RedisServer> CreateAsync(RedisServer? of = null) => new(await DebianPackages.WithAsync(Program, "redis-server"), of);

    /// <summary>Waits until a replica has what its primary has.</summary>
    public Task FollowsAsync() => RealCluster.RetryAsync(async () =>
    {
        await using var redis = await ConnectionMultiplexer.ConnectAsync($"{Address},allowAdmin=true");
        Assert.Contains("master_link_status:up", await redis.GetServers().Single().InfoRawAsync("replication"), StringComparison.Ordinal);
    });

    /// <summary>Makes a replica the primary, as an operator or a sentinel does.</summary>
    public async Task PromoteAsync()
    {
        await using var redis = await ConnectionMultiplexer.ConnectAsync($"{Address},allowAdmin=true");
        await redis.GetServers().Single().ExecuteAsync("REPLICAOF", "NO", "ONE");
    }

    private string[] Following => _primary is null ? [] : ["--replicaof", "127.0.0.1", _primary.PortText];

    public override string[] BackupArguments => ["redis", "-p", PortText];

    public override (string[] Arguments, bool Running)? Restoring => (["redis", Folder], false);

    public override (string Folder, Dictionary<string, string> Variables) Tools => (Path.GetDirectoryName(_packages.PathOf(Program))!, _packages.Variables);

    /// <summary>Loses everything that it holds.</summary>
    public async Task FlushAsync()
    {
        await using var redis = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{PortText},allowAdmin=true");
        await redis.GetServers().Single().FlushAllDatabasesAsync();
    }

    protected override Process Run() => _packages.Start(Program, unprivileged: false, ["--bind", "127.0.0.1", "--port", PortText, "--dir", Folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always", .. Following]);

    protected override async Task<bool> AnswersAsync()
    {
        try
        {
            await using var redis = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{PortText},connectTimeout=500,connectRetry=0");
            await redis.GetDatabase().PingAsync();
            return true;
        }
        catch (Exception e) when (e is RedisException or TimeoutException)
        {
            return false;
        }
    }
}
