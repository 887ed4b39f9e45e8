using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;

namespace AdjointDpm.Client.Tests.Commands;

[Collection("processes")] // a file just written cannot be run while another thread forks
public sealed class DoctorCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task Healthy_Exits0()
    {
        Silo("""echo '{"libtorchFolder":"/opt/libtorch","shim":"/cache/libLibTorchSharp.so","note":"adapted to GLIBCXX_3.4.30","error":null,"threads":1,"devices":["cpu:0"]}'""");
        Assert.Equal(0, await _adpm.RunAsync("doctor"));
        Assert.Contains("ok   libtorch       /opt/libtorch; shim /cache/libLibTorchSharp.so; 1 thread; cpu:0 (adapted to GLIBCXX_3.4.30)\n", _adpm.Out.ToString());
        Assert.DoesNotContain("FAIL", _adpm.Out.ToString());
        Assert.Empty(_adpm.Connected);
    }

    [Fact]
    public async Task Bucket_IsTold_AndWhyItCannotBeWritten()
    {
        const string Answer = """{"libtorchFolder":"/opt/libtorch","error":null,"threads":1,"devices":["cpu:0"],BUCKET}""";
        Silo($"echo '{Answer.Replace("BUCKET", "\"artifacts\":\"s3://results/a\",\"artifactsError\":null", StringComparison.Ordinal)}'");
        Assert.Equal(0, await _adpm.RunAsync("doctor"));
        Assert.Contains("ok   artefacts      s3://results/a can be written\n", _adpm.Out.ToString());

        Silo($"echo '{Answer.Replace("BUCKET", "\"artifacts\":null,\"artifactsError\":\"There is no bucket.\"", StringComparison.Ordinal)}'; exit 1");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("doctor"));
        Assert.Contains("ok   libtorch", _adpm.Out.ToString());
        Assert.Contains("FAIL artefacts      There is no bucket.\n                    The settings are those of the environment: Artifacts__Bucket and others.", _adpm.Out.ToString());
    }

    [Fact]
    public async Task LibtorchFails_Exits1WithTheSilosReason()
    {
        Silo("""echo '{"libtorchFolder":null,"shim":null,"note":"Use Debian 13 or later.","error":"libtorch needs GLIBCXX_3.4.32.","threads":0,"devices":[]}'; exit 1""");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("doctor"));
        Assert.Contains("FAIL libtorch       libtorch needs GLIBCXX_3.4.32.\n                    Use Debian 13 or later.\n", _adpm.Out.ToString());
    }

    [Fact]
    public async Task SiloSaysNothing_ItsLastWordIsTold()
    {
        Silo("echo 'Unhandled exception.' >&2; exit 134");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("doctor"));
        Assert.Contains("The silo ended with exit code 134 and told nothing: Unhandled exception.", _adpm.Out.ToString());
    }

    [Fact]
    public async Task SiloThatStartsInstead_IsStopped()
    {
        Silo("""echo '{"ready":true,"name":"silo","processId":1,"address":"127.0.0.1","siloPort":1,"gatewayPort":2,"httpPort":3,"dataFolder":"/d"}'; exec sleep 600""");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("doctor"));
        Assert.Contains("FAIL libtorch       This silo does not know --doctor: it is of another version.", _adpm.Out.ToString());
    }

    [Fact]
    public async Task NoSiloAndNoCluster_AreBothFound()
    {
        _adpm.Unreachable = new ClusterUnreachableException("No cluster answers. a:1: Connection refused.");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("doctor --gateway a:1 --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal("adjointdpm.dev/doctor/v1", json.RootElement.GetProperty("schema").GetString());
        Assert.False(json.RootElement.GetProperty("healthy").GetBoolean());
        var checks = json.RootElement.GetProperty("checks").EnumerateArray().ToDictionary(check => check.GetProperty("name").GetString()!, check => check.GetProperty("ok").GetBoolean());
        Assert.Equal((true, true, true, false, false), (checks["runtime"], checks["output folder"], checks["cache folder"], checks["silo"], checks["cluster"]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_adpm.Folder)); // looking leaves nothing behind
    }

    [Fact]
    public async Task Cluster_IsAsked()
    {
        _adpm.Cluster.Experiments["stylize-0a1b2c3d"] = Samples.Ended();
        await _adpm.RunAsync("doctor --gateway a:1");
        Assert.Contains("ok   cluster        a:1 answers after 0 ms; newest experiment stylize-0a1b2c3d\n", _adpm.Out.ToString());
    }

    private void Silo(string script)
    {
        var file = Path.Combine(_adpm.Folder, "silo.sh");
        File.WriteAllText(file, "#!/bin/sh\n" + script + "\n");
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        _adpm.Variables["ADJOINTDPM_SILO"] = file;
    }
}
