using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class StepProfilesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-profiles-").FullName;
    private readonly LocalDisk _disk = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Norms_OfIndependentShards_AddUpInSquares()
    {
        Assert.Equal([2.5, 0.5], StepProfiles.Mean([[3, 1], [4, 0]])!);
        Assert.Null(StepProfiles.Mean([[3, 1], null]));
        Assert.Null(StepProfiles.Mean([[3, 1], [3]]));
        Assert.Null(StepProfiles.Mean([]));
    }

    [Fact]
    public async Task Profiles_AreWrittenAtMostOnceASecond_TheLastOfAStepCounts_AndHalfALineIsNone()
    {
        var time = new FakeTimeProvider();
        var files = new TrialFiles(_disk, new Background(TaskScheduler.Default), _folder, 1);
        var profiles = new StepProfiles(files, time);
        profiles.HeldOut(0, [new("loss", 3)]);
        await profiles.WriteAsync(now: false);
        Assert.Empty(await TrialFiles.ReadProfilesAsync(_disk, _folder));
        time.Advance(TimeSpan.FromSeconds(1));
        await profiles.WriteAsync(now: false);
        Assert.Equal(3, Assert.Single(await TrialFiles.ReadProfilesAsync(_disk, _folder)).HeldOut!["loss"]);

        // Done again by another activation, and cut off by a crash.
        files.Epoch = 2;
        profiles.HeldOut(2, [new("loss", 1)]);
        profiles.HeldOut(1, [new("loss", 2)]);
        profiles.HeldOut(1, [new("loss", 5)]);
        await profiles.WriteAsync(now: true);
        await File.AppendAllTextAsync(Path.Combine(_folder, "profile", "00000002.jsonl"), "{\"step\":3,\"heldO", TestContext.Current.CancellationToken);
        Assert.Equal([(0, 3.0), (1, 5.0), (2, 1.0)], (await TrialFiles.ReadProfilesAsync(_disk, _folder)).Select(step => (step.Step, step.HeldOut!["loss"])));
    }
}
