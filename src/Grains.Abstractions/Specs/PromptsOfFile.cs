using System.Text;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Prompts;

namespace AdjointDpm.Grains.Specs;

/// <summary>Puts the texts of a file of prompts into a spec, so that what is drawn decides the spec's hash, and not where the file lay.</summary>
internal static class PromptsOfFile
{
    /// <summary>Where the file is named. It is read with the spec, so that it lies beside that and not in the silos.</summary>
    public const string Place = "sample.promptsFile";

    private const int MostPrompts = 10_000, MostBytes = 1 << 20;

    /// <summary>Replaces <c>sample.promptsFile</c> by <c>sample.prompts</c> and, where every prompt has one, <c>sample.classes</c>. Null when that went well or there is none.</summary>
    public static SpecFinding? Expand(JsonObject spec)
    {
        if (spec["sample"] is not JsonObject sample || sample["promptsFile"] is not JsonValue value)
            return null;
        var file = value.GetValue<string>();
        sample.Remove("promptsFile");
        // What is missing is reported already, at its place.
        if (!File.Exists(file))
            return null;
        if (sample["prompts"] is not null)
            return new(Place, "sample.promptsFile stands beside sample.prompts. Keep one of the two.") { AtKey = true };
        try
        {
            var prompts = PromptFile.Read(file);
            if (prompts.Select((p, i) => (Own: p.Own().ToList(), Index: i)).FirstOrDefault(p => p.Own.Count > 0) is { Own: not null } first)
                return new(Place, $"{file}: prompt {first.Index + 1} has its own {string.Join(", ", first.Own)}, but all samples of an experiment share theirs. Remove it there and set it in sample; 'adpm sample --prompts' goes by it.") { Found = file };
            if (prompts.Count > MostPrompts || prompts.Sum(p => Encoding.UTF8.GetByteCount(p.Text)) > MostBytes)
                return new(Place, $"{file}: holds {prompts.Count} prompts; an experiment takes at most {MostPrompts}, of {MostBytes} bytes together. Take a part of them.") { Found = file };
            sample["prompts"] = new JsonArray([.. prompts.Select(p => JsonValue.Create(p.Text))]);
            if (prompts.All(p => p.Class is not null) && sample["classes"] is null)
                sample["classes"] = new JsonArray([.. prompts.Select(p => JsonValue.Create(p.Class!.Value))]);
            return null;
        }
        catch (InvalidDataException e)
        {
            return new(Place, $"sample.promptsFile: {e.Message}") { Found = file };
        }
    }
}
