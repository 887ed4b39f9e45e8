using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Cluster.Tests.Security;

/// <summary>Nothing listens to the network with the doors open; TLS on every port lets in whom the cluster's authority vouches for.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class TlsTests : IDisposable
{
    private static readonly DateTimeOffset Now = TimeProvider.System.GetUtcNow();

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-tls-");

    private string Silo => Path.Combine(_folder.FullName, "silo");

    private string Client => Path.Combine(_folder.FullName, "client");

    public TlsTests() => ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), Now);

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task BeyondLoopbackWithoutCertificates_ASiloDoesNotStart_AndSaysWhatToDo()
    {
        var (code, error) = await SiloProcess.FailAsync("--Silo:AdvertisedAddress=192.0.2.1", $"--Silo:DataFolder={_folder.FullName}");
        Assert.Equal(1, code);
        Assert.Contains("without authentication and TLS. Name a folder with certificates as Security:TlsFolder", error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--Security:AllowUnauthenticatedNetwork=true")]
    [InlineData("--Security:TlsFolder={0}")]
    public async Task BeyondLoopback_WordsOrCertificatesOpenTheDoor(string setting)
    {
        // All that this machine needs for it is a second address that is not loopback's to the silo: the wildcard's own.
        await using var silo = await SiloProcess.StartAsync("open", _folder.FullName, null, "--Silo:AdvertisedAddress=192.0.2.1", string.Format(System.Globalization.CultureInfo.InvariantCulture, setting, Silo));
        Assert.Equal("192.0.2.1", silo.Ready.Address);
    }

    [Theory]
    [InlineData("tls.key", "is not the private key of tls.crt")]
    [InlineData("tls.crt", "holds no certificate in PEM form")]
    [InlineData("ca.crt", "holds no certificate in PEM form")]
    public async Task FolderThatDoesNotHoldWhatItShould_IsASentence(string file, string sentence)
    {
        await File.WriteAllTextAsync(Path.Combine(Silo, file), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", TestContext.Current.CancellationToken);
        var (code, error) = await SiloProcess.FailAsync($"--Security:TlsFolder={Silo}", $"--Silo:DataFolder={_folder.FullName}");
        Assert.Equal(1, code);
        Assert.Contains(sentence, error, StringComparison.Ordinal);
        File.Delete(Path.Combine(Silo, file));
        Assert.Contains("'adpm certificates DIR' makes them", Assert.Throws<InvalidDataException>(() => Open(Silo)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Certificates_AreHeldAgainstClockAuthorityAndRole()
    {
        var clock = new FakeTimeProvider(Now);
        var silo = TlsFolder.Open(Silo, true, clock, NullLogger.Instance);
        var own = silo.Own!.TargetCertificate;
        Assert.Null(silo.Refusal(own, TlsFolder.Silo));
        Assert.Equal("its certificate 'CN=adjointdpm-silo, OU=silo' has not the organizational unit client", silo.Refusal(own, TlsFolder.Client));
        Assert.Equal("it showed no certificate", silo.Refusal(null, TlsFolder.Silo));
        using var rogue = X509Certificate2.CreateFromPem(ClusterCertificates.Issue(ClusterCertificates.NewAuthority(Now), TlsFolder.Silo, Now, Now.AddDays(1)).Certificate);
        Assert.Contains("is not of an authority in ca.crt", silo.Refusal(rogue, TlsFolder.Silo), StringComparison.Ordinal);
        clock.Advance(TimeSpan.FromDays(3));
        Assert.StartsWith("its certificate ran out on ", silo.Refusal(own, TlsFolder.Silo), StringComparison.Ordinal);
    }

    [Fact]
    public void Files_AreReadAgainWhenTheyChange_AndTheOldStayWhenTheNewAreBroken()
    {
        var clock = new FakeTimeProvider(Now);
        var silo = TlsFolder.Open(Silo, true, clock, NullLogger.Instance);
        var first = silo.Own!.TargetCertificate.SerialNumber;
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), Now);
        Assert.Equal(first, silo.Own!.TargetCertificate.SerialNumber);
        clock.Advance(TimeSpan.FromSeconds(3));
        var second = silo.Own!.TargetCertificate.SerialNumber;
        Assert.NotEqual(first, second);
        File.WriteAllText(Path.Combine(Silo, TlsFolder.CertificateFile), "half of");
        clock.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(second, silo.Own!.TargetCertificate.SerialNumber);
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), Now);
        clock.Advance(TimeSpan.FromSeconds(3));
        Assert.NotEqual(second, silo.Own!.TargetCertificate.SerialNumber);
    }

    [Fact]
    public void Keys_AreTheOwnersAlone()
    {
        if (OperatingSystem.IsWindows())
            return;
        foreach (var key in Directory.GetFiles(_folder.FullName, "*.key", SearchOption.AllDirectories))
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(key));
    }

    [Fact]
    public async Task SecuredCluster_RunsOverTls_ChangesCertificates_AndRefusesStrangers()
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var cluster = await RealCluster.StartAsync(2, (Client, null), $"--Security:TlsFolder={Silo}", "--Workers:TensorStreamBytes=1000");
        var snapshot = await cluster.RunAsync("tls", DigitsSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        var silo = cluster.Silos[0];

        // A client's certificate is good for the gateway and HTTPS, and for nothing between silos.
        Assert.True(await LastsAsync(silo.Ready.GatewayPort, Open(Client)));
        Assert.False(await LastsAsync(silo.Ready.SiloPort, Open(Client)));
        Assert.False(await LastsAsync(silo.Ready.TensorPort, Open(Client)));
        Assert.True(await LastsAsync(silo.Ready.SiloPort, Open(Silo)));
        Assert.True(await LastsAsync(silo.Ready.TensorPort, Open(Silo)));

        // Strangers: another authority, no certificate, no TLS.
        var elsewhere = Path.Combine(_folder.FullName, "elsewhere");
        ClusterCertificates.Make(elsewhere, TimeSpan.FromDays(1), Now);
        foreach (var name in new[] { "silo", "client" })
            File.Copy(Path.Combine(Client, TlsFolder.AuthorityFile), Path.Combine(elsewhere, name, TlsFolder.AuthorityFile), overwrite: true);
        foreach (var port in new[] { silo.Ready.SiloPort, silo.Ready.GatewayPort, silo.Ready.TensorPort })
            Assert.False(await LastsAsync(port, Open(Path.Combine(elsewhere, "silo"))));
        foreach (var (folder, sentence) in new[] { (null, "--tls-folder"), (Path.Combine(elsewhere, "client"), "broke off when it was shown the certificate of --tls-folder") })
        {
            var target = ClusterTarget.Resolve([$"127.0.0.1:{silo.Ready.GatewayPort}"], null, null!) with { TlsFolder = folder };
            if (folder is not null)
                Assert.Contains(sentence, (await Assert.ThrowsAsync<ClusterUnreachableException>(() => OrleansConnection.OpenAsync(target, cancellation))).Message, StringComparison.Ordinal);
        }
        Assert.Contains("is not of an authority in ca.crt", silo.Log, StringComparison.Ordinal);
        Assert.Contains("has not the organizational unit silo", silo.Log, StringComparison.Ordinal);

        // Health over HTTPS, with the cluster's authority.
        using var https = Https(Open(Client));
        Assert.Equal("live\n", await https.GetStringAsync(new Uri($"https://127.0.0.1:{silo.Ready.HttpPort}/health/live"), cancellation));

        // New certificates, no restart: both ports show them, and a third silo joins with them.
        var old = await ShownAsync(silo.Ready.GatewayPort);
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), Now);
        while (await ShownAsync(silo.Ready.GatewayPort) == old)
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, cancellation);
        await cluster.AddAsync("silo-2");
        snapshot = await cluster.RunAsync("after", DigitsSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
    }

    private static TlsFolder Open(string folder) => TlsFolder.Open(folder, needsOwn: true, TimeProvider.System, NullLogger.Instance);

    private static HttpClient Https(TlsFolder tls) => new(new SocketsHttpHandler { SslOptions = tls.ClientOptions(_ => { }) });

    private async Task<string> ShownAsync(int port)
    {
        using var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, port, TestContext.Current.CancellationToken);
        await using var stream = new SslStream(socket.GetStream());
        await stream.AuthenticateAsClientAsync(Open(Client).ClientOptions(_ => { }), TestContext.Current.CancellationToken);
        return stream.RemoteCertificate!.GetSerialNumberString();
    }

    /// <summary>Whether a listener keeps a connection with this certificate: one that refuses ends it at once, in TLS 1.3 after the handshake.</summary>
    private static async Task<bool> LastsAsync(int port, TlsFolder tls)
    {
        using var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, port, TestContext.Current.CancellationToken);
        await using var stream = new SslStream(socket.GetStream());
        try
        {
            await stream.AuthenticateAsClientAsync(tls.ClientOptions(_ => { }), TestContext.Current.CancellationToken);
            // Whoever was let in is waited for; whoever was not hears the end.
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            patience.CancelAfter(TimeSpan.FromSeconds(2));
            return await stream.ReadAsync(new byte[1], patience.Token) > 0;
        }
        catch (OperationCanceledException) when (!TestContext.Current.CancellationToken.IsCancellationRequested)
        {
            return true;
        }
        catch (Exception e) when (e is IOException or AuthenticationException)
        {
            return false;
        }
    }
}
