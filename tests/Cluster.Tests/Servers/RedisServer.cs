using System.Diagnostics;
using StackExchange.Redis;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>Redis with its append-only file flushed before each answer, as docs/cluster.md asks for.</summary>
internal sealed class RedisServer : StorageServer
{
    private const string Program = "/usr/bin/redis-server";
    private readonly DebianPackages _packages;

    private RedisServer(DebianPackages packages) => _packages = packages;

    public override string[] SiloSettings => ["--Cluster:Provider=redis", $"--Cluster:RedisConnection=127.0.0.1:{PortText},abortConnect=false"];

    public static async Task<RedisServer> CreateAsync() => new(await DebianPackages.WithAsync(Program, "redis-server"));

    /// <summary>Loses everything that it holds.</summary>
    public async Task FlushAsync()
    {
        await using var redis = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{PortText},allowAdmin=true");
        await redis.GetServers().Single().FlushAllDatabasesAsync();
    }

    protected override Process Run() => _packages.Start(Program, unprivileged: false, "--bind", "127.0.0.1", "--port", PortText, "--dir", Folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always");

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
