using System.Globalization;
using System.Xml.Linq;
using SkiaSharp;

namespace AdjointDpm.Client.Reporting;

/// <summary>Pictures in the page: as they are where they are small, else smaller ones that lead to the file itself. All together have a budget, so that the page can be mailed.</summary>
/// <param name="folder">Folder of the page.</param>
internal sealed class ReportPictures(string folder)
{
    /// <summary>Bytes of all pictures, and of one.</summary>
    private const int MostBytes = 6_000_000, MostOfOne = 250_000;

    /// <summary>Trials with pictures, and rows of one trial.</summary>
    public const int MostTrials = 12;

    private const int MostFrames = 24;

    /// <summary>What a picture is made as wide as, one after the other until it is small enough.</summary>
    private static readonly int[] Widths = [1600, 1200, 900, 600, 400];

    private int _left = MostBytes;

    /// <summary>Before and after of the best trials.</summary>
    public object[] Of(RecordedExperiment experiment)
    {
        var content = new List<object>();
        var (shown, without, left, small) = (0, 0, 0, false);
        foreach (var trial in experiment.Ranked())
        {
            if (experiment.Bytes(trial.Index, "before.png") is not { } before || experiment.Bytes(trial.Index, "after.png") is not { } after)
            {
                without++;
                continue;
            }
            if (shown == MostTrials || Thumbnail(before) is not { } first || Thumbnail(after) is not { } second)
            {
                left++;
                continue;
            }
            small |= first.IsSmaller || second.IsSmaller;
            content.Add(new XElement("figure",
                new XElement("figcaption", $"Trial {trial.Index}{(trial.Index == experiment.Best?.Index ? ", the best" : "")}: {trial.Parameters()}"),
                Html.Pair(Linked(experiment, trial.Index, "before.png", "Before training", first), Linked(experiment, trial.Index, "after.png", "After training", second), "before", "after")));
            shown++;
        }
        if (shown == 0)
            return [new XElement("p", left > 0 ? $"{Words.Count(left, "trial")} left pictures that are too large for this page or cannot be read; they lie in the folders of the trials, as before.png and after.png." : "There are no pictures: no trial has before.png and after.png in its folder.")];
        content.Insert(0, new XElement("p", $"Equal noise before and after, with fixed seeds: the first samples of each class, not chosen.{(small ? " Large pictures are shown smaller; each leads to its file." : "")}{(left > 0 ? $" Pictures of {Words.Count(left, "further trial")} are left out to keep the page small." : "")}{(without > 0 ? $" {Words.Count(without, "trial")} left no pictures." : "")}"));
        return [.. content];
    }

    /// <summary>Rows of the same noise as a trial's training went on; null where none were drawn.</summary>
    public XElement? OnTheWay(RecordedExperiment experiment, RecordedTrial trial)
    {
        var drawn = trial.History.Where(step => step.Profile?.Picture is not null).Select(step => step.Step).ToList();
        var frames = new List<(int Step, string Source)>();
        foreach (var step in Chart.Thin(drawn, MostFrames))
            if (experiment.Bytes(trial.Index, string.Create(CultureInfo.InvariantCulture, $"steps/{step:d6}.png")) is { } bytes && Thumbnail(bytes) is { } picture)
                frames.Add((step, picture.Source));
        return frames.Count < 2 ? null : new XElement("figure",
            new XElement("figcaption", $"Trial {trial.Index} as training went on, the same noise in each row: every column is one seed."),
            Html.Frames(frames));
    }

    /// <summary>A picture that leads to its file; null when there is no room for it.</summary>
    public XElement? Of(RecordedExperiment experiment, int trial, string name, string title) =>
        experiment.Bytes(trial, name) is { } bytes && Thumbnail(bytes) is { } picture ? Linked(experiment, trial, name, title, picture) : null;

    private XElement Linked(RecordedExperiment experiment, int trial, string name, string title, Picture picture)
    {
        var image = new XElement("img", new XAttribute("alt", title), new XAttribute("title", title), new XAttribute("src", picture.Source));
        return experiment.LinkTo(trial, name, folder) is { } link ? new XElement("a", new XAttribute("href", link), image) : new XElement("div", image);
    }

    /// <summary>A picture that takes its part of what is left; null when it cannot be read, or nothing is left.</summary>
    private Picture? Thumbnail(byte[] png)
    {
        // A decoder looks at nothing that is too small to be one.
        if (png.Length <= MostOfOne)
            return Taken("image/png", png, false);
        using var stream = new SKMemoryStream(png);
        using var codec = SKCodec.Create(stream);
        using var full = codec is null ? null : SKBitmap.Decode(codec);
        foreach (var width in full is null ? [] : Widths)
        {
            var (wide, high) = full!.Width <= width ? (full.Width, full.Height) : (width, Math.Max(1, (int)((long)full.Height * width / full.Width)));
            using var smaller = full.Resize(new SKImageInfo(wide, high, SKColorType.Rgba8888, SKAlphaType.Opaque), SKFilterQuality.High);
            using var encoded = smaller?.Encode(SKEncodedImageFormat.Webp, 82);
            if (encoded?.Size <= MostOfOne)
                return Taken("image/webp", encoded.ToArray(), true);
        }
        return null;
    }

    private Picture? Taken(string type, byte[] bytes, bool isSmaller)
    {
        if (bytes.Length > _left)
            return null;
        _left -= bytes.Length;
        return new($"data:{type};base64,{Convert.ToBase64String(bytes)}", isSmaller);
    }

    private sealed record Picture(string Source, bool IsSmaller);
}
