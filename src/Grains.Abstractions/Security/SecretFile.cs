namespace AdjointDpm.Grains.Security;

/// <summary>Files that their owner alone may read.</summary>
internal static class SecretFile
{
    /// <summary>Writes beside the old file and then in its place, so that nobody reads half of it.</summary>
    public static void Write(string path, string text, bool secret = true)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        var temporary = path + ".new";
        File.Delete(temporary);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (secret && !OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using (var file = new StreamWriter(temporary, options))
            file.Write(text);
        File.Move(temporary, path, overwrite: true);
    }
}
