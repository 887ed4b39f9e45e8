using System.Collections;
using System.Globalization;
using System.Text;
using Tomlyn;
using Tomlyn.Model;

namespace AdjointDpm.Grains.Prompts;

/// <summary>Prompts of sd-scripts' .toml: a table <c>[prompt]</c> with what all share, and <c>[[prompt.subset]]</c> for each.</summary>
internal static class TomlPrompts
{
    private const string Form = "Write what all share under [prompt], and each behind [[prompt.subset]].";

    /// <summary>Reads all subsets, in their order; what a subset says wins over what all share.</summary>
    /// <exception cref="InvalidDataException">The file is no TOML or has no such tables; the message has the line or the number.</exception>
    public static List<Prompt> Read(string path)
    {
        TomlTable all;
        try
        {
            all = TomlSerializer.Deserialize<TomlTable>(File.ReadAllText(path, new UTF8Encoding(false, throwOnInvalidBytes: true))) ?? [];
        }
        catch (TomlException e)
        {
            throw new PromptPlace(path, e.Line ?? 1).Wrong($"is no TOML: {e.Message}");
        }

        if (!all.TryGetValue("prompt", out var found) || found is not TomlTable common)
            throw new InvalidDataException($"{path}: has no table [prompt]. {Form}");
        if (!common.TryGetValue("subset", out var subsets) || subsets is not IEnumerable list || subsets is string or TomlTable)
            throw new InvalidDataException($"{path}: [prompt] has no subset. {Form}");
        return [.. list.Cast<object?>().Select((item, i) => Of(item, common, new(path, i + 1, "subset")))];
    }

    private static Prompt Of(object? item, TomlTable common, PromptPlace place)
    {
        if (item is not TomlTable own)
            throw place.Wrong($"is no table. {Form}");
        PromptRow.RequirePrompt(own.Keys.Concat(common.Keys.Where(k => k != "subset" && common[k] is string)), place);
        var row = new PromptRow(place);
        // The first of a name counts.
        foreach (var (key, value) in own.Concat(common))
        {
            if (value is string or long or double)
                row.Add(key, Convert.ToString(value, CultureInfo.InvariantCulture));
        }

        return row.Prompt();
    }
}
