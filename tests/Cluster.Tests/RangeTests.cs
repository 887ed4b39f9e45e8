using System.Text.Json.Nodes;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Parameters owned in ranges by several silos: the bits of one process that has them all.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class RangeTests
{
    private const int RangeBytes = 20_000;

    private static readonly ExperimentSpec Spec = FaultTests.Spec with { Checkpoint = new CheckpointSpec { KeepSteps = 1 } };

    [Fact]
    public async Task ParametersInRanges_GiveTheBitsOfOneProcess_AndEachSiloReceivesItsShare()
    {
        await using var cluster = await RealCluster.StartAsync(3, $"--Workers:RangeBytes={RangeBytes}");
        // The ports by which a tensor of more than a megabyte would travel are there and are not used for these.
        Assert.All(cluster.Silos, silo => Assert.InRange(silo.Ready.TensorPort, 1, 65535));
        var ended = await cluster.RunAsync("ranges", Spec);
        await FaultTests.SameAsCalmAsync(ended);

        var (ranges, bytes) = Version(cluster, "ranges");
        Assert.True(ranges >= 3, $"{ranges} ranges of {bytes} bytes show nothing.");
        var received = await Task.WhenAll(cluster.Silos.Select(silo => silo.CountAsync("adjointdpm_gradient_bytes_total")));
        // Every number of every shard's gradient arrives once, at the silo that owns it: the coordinator's gets no more than its share.
        Assert.Equal(0, ended.Trials[0].ShardsReissued);
        Assert.Equal(FaultTests.Contributions * bytes, received.Sum());
        Assert.All(received, share => Assert.InRange(share, 1, FaultTests.Contributions * RangeBytes * ((ranges + 2) / 3)));

        var replay = await ReplayTests.ReplayAsync(cluster, "ranges", 5);
        Assert.True(replay.State == ReplayState.Equal, replay.Reason);
        Assert.Equal(4, replay.From);
    }

    [Fact]
    public async Task RangesOverConnectionsBesideTheMessages_GiveTheSameBits_AndTheSameBytesOnce()
    {
        await using var cluster = await RealCluster.StartAsync(3, $"--Workers:RangeBytes={RangeBytes}", $"--Workers:TensorStreamBytes={RangeBytes / 4}");
        var ended = await cluster.RunAsync("streams", Spec);
        await FaultTests.SameAsCalmAsync(ended);
        var (_, bytes) = Version(cluster, "streams");
        var received = await Task.WhenAll(cluster.Silos.Select(silo => silo.CountAsync("adjointdpm_gradient_bytes_total")));
        Assert.Equal(0, ended.Trials[0].ShardsReissued);
        Assert.Equal(FaultTests.Contributions * bytes, received.Sum());
        // Gradients and parameters: all but what a silo has from itself.
        foreach (var silo in cluster.Silos)
            Assert.True(await silo.CountAsync("adjointdpm_tensor_stream_bytes_total") > bytes);
        Assert.All(cluster.Silos, silo => Assert.DoesNotContain("cannot be reached", silo.Log, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(1 << 20)]
    [InlineData(RangeBytes / 4)]
    public async Task SiloThatOwnsRanges_IsKilledInMidStep_AndItsRangesGoOnElsewhere_WithTheSameBits(int streamBytes)
    {
        await using var cluster = await RealCluster.StartAsync(3, $"--Workers:RangeBytes={RangeBytes}", $"--Workers:TensorStreamBytes={streamBytes}");
        foreach (var victimIsTheCoordinator in new[] { false, true })
        {
            var id = victimIsTheCoordinator ? "coordinator" : "owner";
            await cluster.SubmitAsync(id, Spec);
            await cluster.WaitAsync(id, snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
            var coordinator = await FaultTests.CoordinatorAsync(cluster, $"{id}/0");
            var victim = cluster.Silos.First(silo => victimIsTheCoordinator == (silo.Ready.SiloPort == coordinator));
            await cluster.ComputesAsync(victim);
            await cluster.KillAsync(victim.Name);
            // The client knows silos by their address.
            await cluster.AddAsync(victim.Name);
            await FaultTests.SameAsCalmAsync(await cluster.WaitAsync(id, snapshot => snapshot.Summary.EndedAt is not null));
            Assert.True(Version(cluster, id).Ranges >= 3);
            var audit = await (await cluster.ExperimentAsync(id)).AuditAsync(0, TestContext.Current.CancellationToken);
            Assert.True(audit!.Holds, string.Join('\n', audit.Violations));
        }
    }

    /// <summary>Ranges and bytes of the version of the parameters that is kept for replays.</summary>
    private static (int Ranges, long Bytes) Version(RealCluster cluster, string id)
    {
        var files = Directory.GetFiles(Path.Combine(cluster.Folder, "trials", id, "0"), "*.parts").Select(file => JsonNode.Parse(File.ReadAllBytes(file))!);
        var parts = files.First(file => (int)file["perParameter"]! == 1)["parts"]!.AsArray();
        return (parts.Count, parts.Sum(part => (long)part!["parameters"]! * sizeof(float)));
    }
}
