using System.CommandLine.Completions;
using System.Globalization;
using AdjointDpm.Client.Connection;

namespace AdjointDpm.Client.CommandLine;

/// <summary>What a shell offers for an experiment or a trial: those whose results or work lie in the data folder. No cluster is asked, which would take longer than a key.</summary>
internal static class IdCompletions
{
    private const int Most = 200;

    public static IEnumerable<CompletionItem> Of(ClientContext context, CompletionContext completion, bool trials)
    {
        var data = completion.ParseResult.CommandResult.Command.Options.FirstOrDefault(option => option.Name == "--data") is { } option && completion.ParseResult.GetResult(option) is { Tokens: [var given, ..] } ? given.Value : ClusterTarget.DefaultFolder;
        try
        {
            return Names(Path.GetFullPath(data, context.CurrentDirectory), completion.WordToComplete, trials).Take(Most).Select(name => new CompletionItem(name));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return [];
        }
    }

    private static List<string> Names(string data, string word, bool trials)
    {
        if (trials && word.LastIndexOf('/') is > 0 and var slash)
            return [.. Below(data, "trials", word[..slash]).Where(name => int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out _)).OrderBy(name => int.Parse(name, CultureInfo.InvariantCulture)).Select(trial => $"{word[..slash]}/{trial}").Where(name => name.StartsWith(word, StringComparison.Ordinal))];
        return [.. Below(data, "experiments").Union(Below(data, "trials")).Where(name => name.StartsWith(word, StringComparison.Ordinal) && name[0] != '.').Order(StringComparer.Ordinal)];
    }

    private static List<string> Below(string data, params ReadOnlySpan<string> folders)
    {
        var place = Path.Combine([data, .. folders]);
        return Directory.Exists(place) ? [.. Directory.EnumerateDirectories(place).Take(5000).Select(folder => Path.GetFileName(folder))] : [];
    }
}
