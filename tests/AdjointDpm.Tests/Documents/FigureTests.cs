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
        var rows = study.Measure().Take(count).ToArray();
        // The C library does not tell its memory everywhere.
        if (rows[0][1] == "–")
            return;
        Assert.All(rows.Zip(page.Rows), row => Assert.All(
            row.First.Zip(row.Second),
            cell => Assert.InRange(Table.Number(cell.First), 0.75 * Table.Number(cell.Second), 1.25 * Table.Number(cell.Second))));
    }
}
