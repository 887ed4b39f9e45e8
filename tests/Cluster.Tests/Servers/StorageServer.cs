using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>A database server in a process of its own, on loopback and a folder that outlives it.</summary>
internal abstract class StorageServer : IAsyncDisposable
{
    private readonly List<string> _log = [];
    private Process? _process;

    /// <summary>Settings of silos that keep membership and state here.</summary>
    public abstract string[] SiloSettings { get; }

    /// <summary>What deploy/backup.sh is told of it after the folders; null where nothing is to be saved.</summary>
    public virtual string[]? BackupArguments => null;

    /// <summary>The same for deploy/restore.sh, and whether the server must run for it.</summary>
    public virtual (string[] Arguments, bool Running)? Restoring => null;

    /// <summary>Folder with its tools, and what they need to find their libraries.</summary>
    public virtual (string Folder, Dictionary<string, string> Variables) Tools => ("", []);

    protected string Folder { get; } = Directory.CreateTempSubdirectory("adjointdpm-server-").FullName;

    protected int Port { get; } = FreePort();

    public static async Task<StorageServer> StartAsync(string kind)
    {
        var server = await CreateAsync(kind);
        await server.StartAsync();
        return server;
    }

    /// <summary>One that is not started yet.</summary>
    public static async Task<StorageServer> CreateAsync(string kind) => kind switch
    {
        "redis" => await RedisServer.CreateAsync(),
        "postgres" => await PostgresServer.CreateAsync(),
        _ => throw new ArgumentException($"No server is called '{kind}'."),
    };

    /// <summary>Starts the server, also after a kill, and returns once it answers.</summary>
    public async Task StartAsync()
    {
        _process = Run();
        _process.OutputDataReceived += (_, line) => Note(line.Data);
        _process.ErrorDataReceived += (_, line) => Note(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(120));
        while (!await AnswersAsync())
        {
            lock (_log)
                Assert.False(_process.HasExited || timeout.IsCancellationRequested, $"{GetType().Name} does not answer on port {Port}:\n{string.Join('\n', _log)}");
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>SIGKILL, to all its processes.</summary>
    public async Task KillAsync()
    {
        if (_process is null)
            return;
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync(CancellationToken.None);
        _process.Dispose();
        _process = null;
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        Directory.Delete(Folder, recursive: true);
    }

    protected abstract Process Run();

    /// <summary>Whether the server takes requests.</summary>
    protected abstract Task<bool> AnswersAsync();

    private void Note(string? line)
    {
        lock (_log)
            _log.Add(line ?? "");
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    protected string PortText => Port.ToString(CultureInfo.InvariantCulture);
}
