using AdjointDpm.Figures;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Documents;

/// <summary>The tables and figures of docs/ are what <c>dotnet run --project docs/figures -c Release</c> gives today.</summary>
public sealed class FigureTests
{
    public static TheoryData<string> Names() => [.. Study.All.Select(s => s.Name)];

    // The first rows are the quick ones; the whole takes half a minute.
    [Theory]
    [InlineData("samplers", 24)]
    [InlineData("adaptive-samplers", 5)]
    [InlineData("stochastic-samplers", 20)]
    [InlineData("continuous", 17)]
    [InlineData("adjoint-deis", 8)]
    [InlineData("truncated", 10)]
    [InlineData("tolerances", 4)]
    [InlineData("evaluations", 5)]
    public void Table_MeasuredAgain_IsThePages(string name, int rows)
    {
        var study = Study.All.Single(s => s.Name == name);
        var page = Page.Of(study.Page).Get(name);
        Assert.Equal(study.Header, page.Header);
        Assert.All(study.Measure().Take(rows).Zip(page.Rows), row => Assert.Equal(string.Join(" | ", row.Second), string.Join(" | ", row.First)));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Figures_DrawnAgain_AreTheFiles(string name)
    {
        var study = Study.All.Single(s => s.Name == name);
        var files = study.Draw(Page.Of(study.Page).Get(name)).SelectMany(f => f.Files()).ToArray();
        Assert.NotEmpty(files);
        Assert.All(files, f => Assert.Equal(File.ReadAllText(f.Path).ReplaceLineEndings("\n"), f.Svg));
    }
}

/// <summary>Memory is the whole process', so nothing else may run.</summary>
[Collection(nameof(Alone))]
public sealed class MemoryTableTests
{
    [Theory]
    [InlineData("memory", 1)]
    [InlineData("tensors", 4)]
    public void Table_MeasuredAgain_IsNearThePages(string name, int count)
    {
        var study = Study.All.Single(s => s.Name == name);
        var page = Page.Of(study.Page).Get(name);
        Assert.Equal(study.Header, page.Header);
        var rows = Measured();
        // The C library does not tell its memory everywhere.
        if (rows[0][1] == "–")
            return;
        // On a busy machine what the runtime does meanwhile adds to one measurement: then more of them, and their median.
        if (!Near(rows))
            rows = Median([rows, .. Enumerable.Range(0, 4).Select(_ => Measured())]);
        Assert.True(Near(rows), string.Join('\n', rows.Select(row => string.Join(" | ", row))));

        string[][] Measured() => [.. study.Measure().Take(count)];
        bool Near(string[][] measured) => measured.Zip(page.Rows).All(row => row.First.Zip(row.Second).All(
            cell => Table.Number(cell.First) is var found && Table.Number(cell.Second) is var known && found >= 0.75 * known && found <= 1.25 * known));
    }

    private static string[][] Median(string[][][] rounds) =>
        [.. rounds[0].Select((row, i) => row.Select((_, j) => rounds.Select(round => round[i][j]).OrderBy(Table.Number).ElementAt(rounds.Length / 2)).ToArray())];
}
