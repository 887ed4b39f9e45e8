using System.Diagnostics;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Where this checkout lies.</summary>
internal static class Repository
{
    /// <summary>Folder that holds AdjointDpm.sln.</summary>
    public static string Root { get; } = Find();

    /// <summary>All files of a folder, at their places in another one. What is locked by a process that stands still is copied as well.</summary>
    public static void Copy(string from, string to)
    {
        using var copy = Process.Start("cp", ["-R", Path.Combine(from, "."), to]);
        copy.WaitForExit();
        Assert.Equal(0, copy.ExitCode);
    }

    private static string Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "AdjointDpm.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException($"AdjointDpm.sln is in no folder above {AppContext.BaseDirectory}. Run the tests from a checkout.");
    }
}
