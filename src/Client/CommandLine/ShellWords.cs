namespace AdjointDpm.Client.CommandLine;

/// <summary>Commands as they are typed.</summary>
internal static class ShellWords
{
    /// <summary>A command of this program that a shell reads as these words.</summary>
    public static string Command(IEnumerable<string> words) => string.Join(' ', words.Select(Quote).Prepend("adpm"));

    private static string Quote(string word) => word.All(c => char.IsLetterOrDigit(c) || "-_./=:,[]".Contains(c, StringComparison.Ordinal)) && word.Length > 0 ? word : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";
}
