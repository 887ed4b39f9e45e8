using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>What docs/operations.md says of backups, done.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class BackupTests
{
    private static readonly ExperimentSpec Spec = DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = 8 }, HeldOut = null };

    [Fact]
    public async Task Folder_SavedInTheMiddleOfARun_RestoredElsewhere_GoesOnToTheSameBits()
    {
        var backup = Directory.CreateTempSubdirectory("adjointdpm-backup-").FullName;
        try
        {
            string expected;
            int saved;
            await using (var cluster = await RealCluster.StartAsync(1))
            {
                await cluster.SubmitAsync("run", Spec);
                await cluster.WaitAsync("run", snapshot => snapshot.Trials[0].Step >= 2);
                // An instant: nothing is written while it stands still.
                cluster.Silos[0].Hang();
                Repository.Copy(cluster.Folder, backup);
                cluster.Silos[0].Resume();
                var undisturbed = await cluster.WaitAsync("run", snapshot => snapshot.Summary.EndedAt is not null);
                Assert.True(undisturbed.Summary.State == RunState.Succeeded, undisturbed.Reason);
                expected = undisturbed.Trials[0].ParametersSha256!;
                saved = undisturbed.Trials[0].Step;
            }
            await using var restored = await RealCluster.StartAsync(0);
            Repository.Copy(backup, restored.Folder);
            await restored.AddAsync("silo-0");
            var snapshot = await restored.WaitAsync("run", state => state.Summary.EndedAt is not null);
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
            Assert.Equal((expected, saved), (snapshot.Trials[0].ParametersSha256, snapshot.Trials[0].Step));
            var audit = await (await restored.ExperimentAsync("run")).AuditAsync(0, TestContext.Current.CancellationToken);
            Assert.Empty(audit!.Violations);
        }
        finally
        {
            Directory.Delete(backup, recursive: true);
        }
    }
}
