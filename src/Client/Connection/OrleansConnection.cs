using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Security.Authentication;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Client.Connection;

/// <summary>A cluster over Orleans.</summary>
internal sealed class OrleansConnection : IClusterConnection
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private readonly IHost _host;
    private readonly IGrainFactory _grains;
    private readonly string _target;

    private OrleansConnection(IHost host, string target)
    {
        (_host, _target) = (host, target);
        _grains = host.Services.GetRequiredService<IGrainFactory>();
    }

    public static async Task<IClusterConnection> OpenAsync(ClusterTarget target, CancellationToken cancellationToken)
    {
        var credentials = ClientCredentials.Open(target.TlsFolder, target.TokenFile, TimeProvider.System, NullLogger.Instance);
        await DemandReachableAsync(target, credentials, cancellationToken);
        var deadline = DateTimeOffset.MaxValue;
        var builder = new HostBuilder().UseOrleansClient(client =>
        {
            if (target.DataFolder is { } folder) client.UseAdjointDpmDataFolder(folder);
            else client.UseAdjointDpmGateways(target.Gateways);
            client.UseAdjointDpmCredentials(target.TlsFolder, target.TokenFile);
            client.UseConnectionRetryFilter(async (_, token) =>
            {
                if (TimeProvider.System.GetUtcNow() > deadline) return false;
                await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, token);
                return true;
            });
        });
        var host = builder.Build();
        deadline = TimeProvider.System.GetUtcNow() + Patience;
        try
        {
            await host.StartAsync(cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            host.Dispose();
            throw new ClusterUnreachableException($"The cluster at {target} does not answer: {e.Message}{(credentials.IsEmpty ? " A secured cluster wants --tls-folder and --token-file." : "")}", e);
        }

        return new OrleansConnection(host, target.ToString());
    }

    public Task<SubmitReceipt> SubmitAsync(string id, ExperimentSubmission submission, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).SubmitAsync(submission, cancellationToken));

    public Task<ExperimentSnapshot?> GetSnapshotAsync(string id, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetSnapshotAsync(cancellationToken));

    public Task<IReadOnlyList<TrialSnapshot>> GetTrialsAsync(string id, int skip, int take, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetTrialsAsync(skip, take, cancellationToken));

    public Task<TrialPage?> FindTrialsAsync(string id, TrialQuery query, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).FindTrialsAsync(query, cancellationToken));

    public Task<IReadOnlyList<TrialStep>> GetStepsAsync(string id, int trial, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetStepsAsync(trial, cancellationToken));

    public Task<IReadOnlyList<ExperimentEvent>> GetEventsAsync(string id, int? trial, int skip, int take, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetEventsAsync(trial, skip, take, cancellationToken));

    public Task<IReadOnlyList<ResultFile>> GetFilesAsync(string id, int trial, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetFilesAsync(trial, cancellationToken));

    public Task<ResultPart?> GetFileAsync(string id, int trial, string sha256, long offset, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetFileAsync(trial, sha256, offset, cancellationToken));

    public Task<ResultPart?> GetReportAsync(string id, long offset, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetReportAsync(offset, cancellationToken));

    public Task<ControlReceipt> ControlAsync(string id, ExperimentControl control, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).ControlAsync(control, cancellationToken));

    public Task<GradientProofReport?> GetGradientProofAsync(string id, int trial, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).GetGradientProofAsync(trial, cancellationToken));

    public Task<TrialAudit?> AuditAsync(string id, int trial, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentGrain>(id).AuditAsync(trial, cancellationToken));

    public Task<StepReplay> ReplayAsync(string id, int trial, int step, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IStepReplayGrain>(IStepReplayGrain.KeyOf(id, trial, step)).ReplayAsync(cancellationToken));

    public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key).ListAsync(skip, take, cancellationToken));

    public Task<IReadOnlyList<WorkerDescription>> ListWorkersAsync(CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).DescribeAsync(cancellationToken));

    public Task<IReadOnlyList<SiloMessage>> GetLogsAsync(IReadOnlyDictionary<string, long> after, int most, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).GetLogsAsync(new Dictionary<string, long>(after), most, cancellationToken));

    public Task<IReadOnlyList<string>> CordonAsync(IReadOnlyList<string> workers, bool cordoned, CancellationToken cancellationToken) =>
        Ask(() => _grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).CordonAsync([.. workers], cordoned, cancellationToken));

    public async IAsyncEnumerable<ExperimentEvent> WatchAsync(string id, long afterSequence, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var events = _grains.GetGrain<IExperimentGrain>(id).WatchAsync(afterSequence, cancellationToken).GetAsyncEnumerator(cancellationToken);
        await using (events)
        {
            while (await Ask(() => events.MoveNextAsync().AsTask())) yield return events.Current;
        }
    }

    public async ValueTask DisposeAsync()
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        try
        {
            await _host.StopAsync(patience.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or OrleansException)
        {
            // The silos may be gone before us; there is nothing left to say to them.
        }

        _host.Dispose();
    }

    private async Task<T> Ask<T>(Func<Task<T>> call)
    {
        try
        {
            return await call();
        }
        catch (Exception e) when (e is TimeoutException or SocketException or Orleans.Runtime.Messaging.ConnectionFailedException or SiloUnavailableException or OrleansMessageRejectionException or GatewayTooBusyException or ClientNotAvailableException or EnumerationAbortedException or ObjectDisposedException)
        {
            // Orleans' own words for a timeout are half a page of message headers.
            var reason = e is TimeoutException ? $"no answer within {AdjointDpmCluster.ResponseTimeout.TotalSeconds:0} s." : e.Message;
            throw new ClusterUnreachableException($"The cluster at {_target} stopped to answer: {reason}", e);
        }
    }

    /// <summary>Says within seconds when nobody listens; Orleans alone would go on trying for longer than a person waits.</summary>
    private static async Task DemandReachableAsync(ClusterTarget target, ClientCredentials credentials, CancellationToken cancellationToken)
    {
        if (target.DataFolder is { } folder)
        {
            var file = new FileGatewayListProvider(new MembershipFile(folder, AdjointDpmCluster.ClusterId, TimeProvider.System));
            if ((await file.GetGateways()).Count == 0) throw new ClusterUnreachableException($"No silo is running on the data folder '{folder}'.");
            return;
        }

        var reasons = new List<string>();
        foreach (var (host, port) in target.Gateways)
        {
            try
            {
                foreach (var address in await Dns.GetHostAddressesAsync(host, cancellationToken))
                {
                    using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                    timeout.CancelAfter(TimeSpan.FromSeconds(3));
                    using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                    try
                    {
                        await socket.ConnectAsync(new IPEndPoint(address, port), timeout.Token);
                        await credentials.TryAsync(socket, timeout.Token);
                        return;
                    }
                    catch (Exception e) when (e is SocketException or IOException or AuthenticationException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
                    {
                        reasons.Add($"{host}:{port}: {(e is not OperationCanceledException ? e.Message : "no answer within 3 s")}");
                    }
                }
            }
            catch (SocketException e)
            {
                reasons.Add($"{host}: {e.Message}");
            }
        }

        throw new ClusterUnreachableException($"No cluster answers. {string.Join("; ", reasons)}.");
    }
}
