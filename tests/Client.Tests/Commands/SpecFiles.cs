using AdjointDpm.Client.Tests.Specs;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>A spec that holds, with what it names, in a folder.</summary>
internal static class SpecFiles
{
    public static string Write(string folder, Func<string, string>? change = null)
    {
        foreach (var name in new[] { "unet", "judge", "other" }) Directory.CreateDirectory(Path.Combine(folder, name));
        File.WriteAllBytes(Path.Combine(folder, "style.png"), []);
        var file = Path.Combine(folder, "stylize.yaml");
        File.WriteAllText(file, change is null ? SpecFolder.Valid : change(SpecFolder.Valid));
        return file;
    }
}
