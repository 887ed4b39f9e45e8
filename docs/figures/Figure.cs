using OxyPlot;

namespace AdjointDpm.Figures;

/// <summary>A picture in docs/images, once for light and once for dark pages.</summary>
internal sealed record Figure(string Name, Func<Theme, PlotModel> Plot)
{
    private const int Width = 720, Height = 440;

    public static Figure Of(string name, Func<Theme, Chart> draw) => new(name, theme => draw(theme).Plot(Width, Height));

    /// <summary>Path and contents of each of its files.</summary>
    public IEnumerable<(string Path, string Svg)> Files() => Theme.Both.Select(theme =>
        (Path.Combine(Page.Folder, "images", $"{Name}-{theme.Name}.svg"), new SvgExporter { Width = Width, Height = Height, IsDocument = false }.ExportToString(Plot(theme)).ReplaceLineEndings("\n")));

    public void Save()
    {
        foreach (var (path, svg) in Files())
            File.WriteAllText(path, svg);
    }
}
