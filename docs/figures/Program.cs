// Measures the tables of docs/adjoints.md and docs/samplers.md, writes them into the pages, and draws the figures from them.
// dotnet run --project docs/figures -c Release -- [name …]        default: all
using System.Globalization;
using AdjointDpm.Figures;
using AdjointDpm.Native;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
NativeTorch.EnsureLoaded();
set_num_threads(1);
var unknown = args.Except(Study.All.Select(s => s.Name)).FirstOrDefault();
if (unknown is not null)
{
    Console.Error.WriteLine($"There is no study '{unknown}'. There are: {string.Join(", ", Study.All.Select(s => s.Name))}.");
    return 2;
}

foreach (var study in Study.All.Where(s => args.Length == 0 || args.Contains(s.Name)))
{
    var started = System.Diagnostics.Stopwatch.GetTimestamp();
    var table = new Table(study.Header, [.. study.Measure()]);
    Page.Of(study.Page).Put(study.Name, table);
    // Drawn from what the page says, so that a figure never shows more digits than its table.
    foreach (var figure in study.Draw(table))
        figure.Save();
    Console.WriteLine($"{study.Name}: {table.Rows.Count} rows in docs/{study.Page}, {System.Diagnostics.Stopwatch.GetElapsedTime(started).TotalSeconds:f1} s");
}

return 0;
