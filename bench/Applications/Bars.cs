namespace AdjointDpm.Bench;

/// <summary>Figures beside what they were to reach.</summary>
internal sealed class Bars
{
    private readonly List<(string Recipe, string Bar, string Figure, bool Holds)> _rows = [];

    /// <param name="recipe">Which application.</param>
    /// <param name="bar">What was to be reached.</param>
    /// <param name="figure">What was measured.</param>
    /// <param name="holds">Whether that reaches it.</param>
    public void Add(string recipe, string bar, string figure, bool holds) => _rows.Add((recipe, bar, figure, holds));

    public void Write()
    {
        if (_rows.Count == 0)
            return;
        Console.WriteLine("\n## Figures and bars\n\n| recipe | to be reached | measured | |\n|---|---|---|---|");
        foreach (var (recipe, bar, figure, holds) in _rows)
            Console.WriteLine($"| [{recipe}](#{recipe}) | {bar} | {figure} | {(holds ? "yes" : "**no**")} |");
    }
}
