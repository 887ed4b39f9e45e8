using System.Runtime.CompilerServices;

namespace AdjointDpm.Client.Tests;

/// <summary>Compares text with a committed <c>*.verified.txt</c> beside the test. After a wanted change, copy the <c>*.received.txt</c> over it.</summary>
internal static class Verified
{
    public static void Equal(string text, string name, [CallerFilePath] string test = "")
    {
        var folder = Path.Combine(Path.GetDirectoryName(Repository.Path(test))!, "Verified");
        var (verified, received) = (Path.Combine(folder, name + ".verified.txt"), Path.Combine(folder, name + ".received.txt"));
        text = text.ReplaceLineEndings("\n").TrimEnd('\n') + "\n";
        var expected = File.Exists(verified) ? File.ReadAllText(verified).ReplaceLineEndings("\n") : "";
        Directory.CreateDirectory(folder);
        File.Delete(received);
        if (text == expected) return;
        File.WriteAllText(received, text);
        Assert.Fail($"{verified} differs from what was printed:\n{text}");
    }
}

internal static class Repository
{
    /// <summary>A source path as compiled, found again under the repository that the tests run in.</summary>
    public static string Path(string compiled)
    {
        if (File.Exists(compiled)) return compiled;
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(System.IO.Path.Combine(folder.FullName, "AdjointDpm.sln"))) folder = folder.Parent;
        var at = compiled.Replace('\\', '/').LastIndexOf("/tests/Client.Tests/", StringComparison.Ordinal);
        return System.IO.Path.Combine(folder!.FullName, compiled.Replace('\\', '/')[(at + 1)..]);
    }
}
