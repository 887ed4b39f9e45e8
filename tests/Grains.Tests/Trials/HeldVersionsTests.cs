using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Trials;

/// <summary>While a folder is saved no version goes; afterwards those go that nobody needs any more.</summary>
public sealed class HeldVersionsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-held-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Delete_WhileHeld_KeepsAll_AndTheNextCallRemovesWhatIsStillUnused()
    {
        var folders = new SiloFolders(_folder);
        var files = new TrialFiles(new LocalDisk(), new Background(TaskScheduler.Default), folders.TrialWork("e", 0), 1, folders.Hold);
        var (first, second, third) = (await files.WriteAsync([1]), await files.WriteAsync([2]), await files.WriteAsync([3]));
        await File.WriteAllTextAsync(folders.Hold, "", TestContext.Current.CancellationToken);
        Assert.True(files.IsHeld);
        await files.DeleteAsync([first], [second, third]);
        await files.DeleteAsync([second], [third]);
        Assert.Equal([first, second, third], Left());

        // A version that a later step has the bits of again is needed again.
        File.Delete(folders.Hold);
        await files.DeleteAsync([], [third, second]);
        Assert.Equal([second, third], Left());
        await files.DeleteAsync([], [third]);
        Assert.Equal([second, third], Left());

        IEnumerable<string> Left() => new[] { first, second, third }.Where(sha => File.Exists(Path.Combine(files.Folder, sha + ".bin")));
    }
}
