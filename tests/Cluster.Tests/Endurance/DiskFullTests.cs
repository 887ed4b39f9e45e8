using System.Diagnostics;
using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Cluster.Tests.Endurance;

/// <summary>A data folder without room: nothing that was committed is lost, and the run goes on to the same bits when there is some again.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class DiskFullTests(ITestOutputHelper output)
{
    private const string Stops = "See that the data folder's disk has room and works; nothing that was committed is lost.";

    [Fact]
    public async Task DiskFullInMidRun_TheSiloSaysSo_AndGoesOnWhenThereIsRoom()
    {
        if (!Environment.IsPrivilegedProcess)
            Assert.Skip("Mounting a small file system takes root.");
        await using var cluster = await RealCluster.StartAsync(0);
        await RunAsync("mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "none", cluster.Folder);
        try
        {
            await cluster.AddAsync("silo-0");
            var silo = cluster.Silos[0];
            await cluster.SubmitAsync("full", FaultTests.Spec);
            var before = await cluster.WaitAsync("full", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
            var filler = Path.Combine(cluster.Folder, "filler");
            // A version of parameters that does not go in is waited for, the journal is not: who is cordoned is written there. What the silo removes meanwhile makes room, which is taken, too.
            var ended = silo.EndedAsync();
            for (var cordoned = true; !ended.IsCompleted && !silo.Log.Contains(Stops, StringComparison.Ordinal); cordoned = !cordoned)
            {
                Fill(filler);
                await Task.WhenAny(ended, CordonTests.CordonAsync(cluster, "silo-0/cpu:0", cordoned));
            }

            // It stops by itself: what follows would be built on what is not there.
            await ended;
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Full after step {before.Trials[0].Step}. The silo's last words: {string.Join(" | ", silo.Log.Split('\n').TakeLast(3))}"));
            Assert.Contains(Stops, silo.Log, StringComparison.Ordinal);
            await cluster.KillAsync("silo-0");

            File.Delete(filler);
            await cluster.AddAsync("silo-1");
            var after = await cluster.WaitAsync("full", snapshot => snapshot.Summary.EndedAt is not null);
            Assert.True(after.Summary.State == RunState.Succeeded, after.Reason);
            Assert.Equal(before.Trials[0].LossHistory, after.Trials[0].LossHistory.Take(before.Trials[0].LossHistory.Count));
            await FaultTests.SameAsCalmAsync(after);
            Assert.Empty((await (await cluster.ExperimentAsync("full")).AuditAsync(0, TestContext.Current.CancellationToken))!.Violations);
            await cluster.KillAsync("silo-1");
        }
        finally
        {
            foreach (var silo in cluster.Silos)
                await silo.KillAsync();
            await RunAsync("umount", cluster.Folder);
        }
    }

    /// <summary>Until not a byte more goes in.</summary>
    private static void Fill(string path)
    {
        using var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite, 0);
        for (var size = 1 << 20; size > 0; size /= 16)
            try
            {
                while (true)
                    file.Write(new byte[size]);
            }
            catch (IOException)
            {
                // Smaller pieces may go in still.
            }
    }

    private static async Task RunAsync(string program, params string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        await process.WaitForExitAsync(CancellationToken.None);
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)} ended with code {process.ExitCode}.");
    }
}
