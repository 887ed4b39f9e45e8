using System.Globalization;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>A row of samples after a step.</summary>
/// <param name="Step">Steps committed when it was drawn.</param>
/// <param name="Sha256">SHA-256 of the PNG file.</param>
internal sealed record StepPicture(int Step, string Sha256);

/// <summary>Pictures of samples on the way, beside what else is observed of a trial's steps: files by step and content, so that a name never means another picture.</summary>
internal static partial class StepPictures
{
    /// <summary>Folder among a trial's results.</summary>
    public const string ResultFolder = "steps";

    private const string Folder = "pictures";

    /// <summary>Keeps one. Seen by all on return; after a power cut perhaps gone.</summary>
    public static async Task WriteAsync(IDisk disk, string trial, int step, byte[] png)
    {
        var path = Path.Combine(PlaceIn(trial), NameOf(new StepPicture(step, TensorReference.HashOf(png))));
        if (!disk.Exists(path))
            await disk.WriteAsync(path, png, Durability.Seen);
    }

    /// <summary>Those of a trial, by step.</summary>
    public static async Task<IReadOnlyList<StepPicture>> ListAsync(IDisk disk, string trial) =>
        [.. (await disk.ListAsync(PlaceIn(trial))).Select(path => Parse(Path.GetFileName(path))).OfType<StepPicture>().OrderBy(picture => picture.Step)];

    /// <summary>Contents of one; null when there is none of this step and content.</summary>
    public static Task<byte[]?> ReadAsync(IDisk disk, string trial, StepPicture picture) => disk.ReadAsync(Path.Combine(PlaceIn(trial), NameOf(picture)));

    /// <summary>Puts them among the results, by step.</summary>
    public static void Copy(string trial, string results)
    {
        if (!Directory.Exists(PlaceIn(trial)))
            return;
        var into = Directory.CreateDirectory(Path.Combine(results, ResultFolder)).FullName;
        foreach (var path in Directory.EnumerateFiles(PlaceIn(trial), "*.png"))
            if (Parse(Path.GetFileName(path)) is { } picture)
                File.Copy(path, Path.Combine(into, string.Create(CultureInfo.InvariantCulture, $"{picture.Step:d6}.png")));
    }

    /// <summary>A name as it stands in a folder or an address; null for any other text.</summary>
    public static StepPicture? Parse(string name) => Name().Match(name) is { Success: true } match ? new(int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture), match.Groups[2].Value) : null;

    public static string NameOf(StepPicture picture) => string.Create(CultureInfo.InvariantCulture, $"{picture.Step:d6}.{picture.Sha256}.png");

    private static string PlaceIn(string trial) => Path.Combine(trial, TrialFiles.ProfileFolder, Folder);

    [GeneratedRegex(@"^(\d{6,9})\.([0-9a-f]{64})\.png\z")]
    private static partial Regex Name();
}
