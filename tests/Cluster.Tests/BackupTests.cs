using System.Diagnostics;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>What docs/operations.md says of backups, done by the programs that it names, while a run goes on.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class BackupTests : IDisposable
{
    private static readonly ExperimentSpec Spec = DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = 24 }, HeldOut = null };

    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-backup-").FullName;

    private string Target => Path.Combine(_folder, "target");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Between the states and the folder the run commits more steps, whose predecessors would be removed if nothing held them.</summary>
    [Theory]
    [InlineData("files")]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task Cluster_SavedWhileItRuns_RestoredElsewhere_GoesOnToTheSameBits(string kind)
    {
        string expected;
        int between;
        await using (var server = kind == "files" ? null : await StorageServer.StartAsync(kind))
        await using (var cluster = await RealCluster.StartAsync(1, server?.SiloSettings ?? []))
        {
            await cluster.SubmitAsync("run", Spec);
            await cluster.WaitAsync("run", snapshot => snapshot.Trials[0].Step >= 2);
            using var backup = Start("backup.sh", server, [cluster.Folder, Target, .. server?.BackupArguments ?? ["files"]]);
            await RealCluster.RetryAsync(() =>
            {
                Assert.True(File.Exists(Path.Combine(_folder, "waits")), $"It does not save the folder; it has ended: {backup.HasExited}.");
                return Task.CompletedTask;
            });
            var saved = (await cluster.WaitAsync("run", _ => true)).Trials[0].Step;
            between = (await cluster.WaitAsync("run", snapshot => snapshot.Trials[0].Step >= saved + 4)).Trials[0].Step;
            await File.WriteAllTextAsync(Path.Combine(_folder, "go"), "", TestContext.Current.CancellationToken);
            await SucceedsAsync(backup);
            Assert.False(File.Exists(Path.Combine(cluster.Folder, "hold-versions")));
            var undisturbed = await cluster.WaitAsync("run", snapshot => snapshot.Summary.EndedAt is not null);
            Assert.True(undisturbed.Summary.State == RunState.Succeeded, undisturbed.Reason);
            expected = undisturbed.Trials[0].ParametersSha256!;
            Assert.True(between < Spec.Training.Steps, "The run was over before it was saved.");
            // What was held is removed like everything else, once it is not.
            Assert.Empty(Directory.GetFiles(Path.Combine(cluster.Folder, "trials", "run", "0"), "*.bin").Select(Path.GetFileName));
        }
        await using var other = kind == "files" ? null : await StorageServer.CreateAsync(kind);
        await using var restored = await RealCluster.StartAsync(0, other?.SiloSettings ?? []);
        if (other?.Restoring is { Running: true })
            await other.StartAsync();
        using (var restore = Start("restore.sh", other, [Target, restored.Folder, .. other?.Restoring!.Value.Arguments ?? ["files"]]))
            await SucceedsAsync(restore);
        if (other?.Restoring is { Running: false })
            await other.StartAsync();
        await restored.AddAsync("silo-0");
        var first = (await restored.WaitAsync("run", _ => true)).Trials[0].Step;
        Assert.InRange(first, 2, between);
        var snapshot = await restored.WaitAsync("run", state => state.Summary.EndedAt is not null);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        Assert.Equal((expected, Spec.Training.Steps), (snapshot.Trials[0].ParametersSha256, snapshot.Trials[0].Step));
        var audit = await (await restored.ExperimentAsync("run")).AuditAsync(0, TestContext.Current.CancellationToken);
        Assert.Empty(audit!.Violations);
    }

    [Fact]
    public async Task Programs_RefuseWhatWouldOverwriteSomething_AndLeaveNothingHeld()
    {
        var data = Directory.CreateDirectory(Path.Combine(_folder, "data")).FullName;
        await File.WriteAllTextAsync(Path.Combine(data, "kept"), "", TestContext.Current.CancellationToken);
        foreach (var (program, arguments, sentence) in new (string, string[], string)[]
        {
            ("backup.sh", [data, data, "files"], "is not empty."), ("backup.sh", [data, Target, "tape"], "'tape' is none of files, redis, postgres."), ("backup.sh", [data], "backup.sh DATA TARGET files"),
            ("restore.sh", [Target, data, "files"], "is not empty."), ("restore.sh", [], "restore.sh TARGET DATA files"),
        })
        {
            using var process = Start(program, null, arguments);
            Assert.Contains(sentence, await ErrorsAsync(process), StringComparison.Ordinal);
            Assert.NotEqual(0, process.ExitCode);
            Assert.Equal(["kept"], Directory.GetFiles(data).Select(Path.GetFileName));
        }
    }

    /// <summary>A program of deploy/, with a tar that waits before it saves the folder until the file "go" is there.</summary>
    private Process Start(string program, StorageServer? server, string[] arguments)
    {
        var tools = Directory.CreateDirectory(Path.Combine(_folder, "tools")).FullName;
        var tar = Path.Combine(tools, "tar");
        if (!File.Exists(tar))
        {
            File.WriteAllText(tar, $"#!/bin/sh\ncase \"$*\" in --create*data.tar*) : > '{_folder}/waits'; until [ -e '{_folder}/go' ]; do sleep 0.05; done;; esac\nexec /usr/bin/tar \"$@\"\n");
            using var executable = Process.Start("chmod", ["+x", tar]);
            executable.WaitForExit();
        }
        var start = new ProcessStartInfo(Path.Combine(Repository.Root, "deploy", program), arguments) { RedirectStandardError = true };
        foreach (var (name, value) in server?.Tools.Variables ?? [])
            start.Environment[name] = value;
        start.Environment["PATH"] = $"{tools}:{server?.Tools.Folder}:{Environment.GetEnvironmentVariable("PATH")}";
        start.Environment["HOLD_SECONDS"] = "0";
        return Process.Start(start)!;
    }

    private static async Task SucceedsAsync(Process process)
    {
        var error = await ErrorsAsync(process);
        Assert.True(process.ExitCode == 0, $"{process.StartInfo.FileName} ended with code {process.ExitCode}:\n{error}");
    }

    private static async Task<string> ErrorsAsync(Process process)
    {
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return error;
    }
}
