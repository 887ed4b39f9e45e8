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
        var log = new ProfileLog(_disk, _folder);
        Assert.Empty(await log.ReadAsync());
        time.Advance(TimeSpan.FromSeconds(1));
        await profiles.WriteAsync(now: false);
        Assert.Equal(3, Assert.Single(await log.ReadAsync()).Value.HeldOut!["loss"]);

        // Done again by another activation, and cut off by a crash.
        files.Epoch = 2;
        profiles.HeldOut(2, [new("loss", 1)]);
        profiles.HeldOut(1, [new("loss", 2)]);
        profiles.HeldOut(1, [new("loss", 5)]);
        await profiles.WriteAsync(now: true);
        await File.AppendAllTextAsync(Path.Combine(_folder, "profile", "00000002.jsonl"), "{\"step\":3,\"heldO", TestContext.Current.CancellationToken);
        (int, double)[] expected = [(0, 3.0), (1, 5.0), (2, 1.0)];
        // The one that has read before, and one that begins.
        foreach (var reader in new[] { log, new ProfileLog(_disk, _folder), log })
            Assert.Equal(expected, (await reader.ReadAsync()).Select(step => (step.Key, step.Value.HeldOut!["loss"])));
        // The rest of the line.
        await File.AppendAllTextAsync(Path.Combine(_folder, "profile", "00000002.jsonl"), "ut\":{\"loss\":7}}\n", TestContext.Current.CancellationToken);
        Assert.Equal(7, (await log.ReadAsync())[3].HeldOut!["loss"]);
    }
}
