namespace AdjointDpm.Cluster.Tests;

/// <summary>Where this checkout lies.</summary>
internal static class Repository
{
    /// <summary>Folder that holds AdjointDpm.sln.</summary>
    public static string Root { get; } = Find();

    /// <summary>All files of a folder, at their places in another one.</summary>
    public static void Copy(string from, string to)
    {
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
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
