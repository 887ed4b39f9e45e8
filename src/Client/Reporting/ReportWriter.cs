using System.Text;
using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Audit;

namespace AdjointDpm.Client.Reporting;

/// <summary>What was written.</summary>
/// <param name="Page">Path of the page.</param>
/// <param name="Numbers">Path of the numbers.</param>
/// <param name="Document">The numbers.</param>
/// <param name="Verdicts">One for each experiment.</param>
internal sealed record WrittenReport(string Page, string Numbers, string Document, IReadOnlyList<Verdict> Verdicts);

/// <summary>Reads the folders of experiments and writes the page.</summary>
internal static class ReportWriter
{
    /// <summary>Reading a ledger takes milliseconds; of more trials than these the first are read.</summary>
    private const int MostAudits = 200;

    /// <param name="folders">Folder of each experiment, with its report.json.</param>
    /// <param name="page">File to write; null for one in the first folder.</param>
    /// <param name="time">Clock.</param>
    /// <exception cref="CommandFailure">Something cannot be read or written.</exception>
    public static WrittenReport Write(IReadOnlyList<string> folders, string? page, TimeProvider time)
    {
        var experiments = folders.Select(folder =>
        {
            var recorded = RecordedExperiment.Load(folder);
            var audits = Audits(folder, recorded);
            return new ReportedExperiment(recorded, audits, Verdict.Of(recorded, audits));
        }).ToList();
        var path = page ?? Path.Combine(folders[0], experiments.Count == 1 ? "report.html" : "comparison.html");
        // The record that this was made from is called report.json, often beside report.html: no name that the page may have leads to it.
        var numbers = Path.ChangeExtension(path, ".verdict.json");
        if (Path.GetExtension(path).Equals(".json", StringComparison.OrdinalIgnoreCase))
            throw new CommandFailure(ExitCodes.Invalid, $"--output: '{path}' is the name of a JSON file, and what is written is a page.", $"Name it like {Path.GetFileNameWithoutExtension(path)}.html; the numbers go to {Path.GetFileName(numbers)} beside it.");
        var document = JsonSerializer.Serialize(new ReportDocument([.. experiments.Select(experiment => experiment.Verdict)]), RecordedJson.Reading.ReportDocument);
        WriteText(path, ReportPage.Of(experiments, time.GetUtcNow()));
        WriteText(numbers, document + "\n");
        return new(path, numbers, document, [.. experiments.Select(experiment => experiment.Verdict)]);
    }

    /// <summary>From the ledgers beside the results, where these lie in a data folder.</summary>
    private static List<TrialAudit> Audits(string folder, RecordedExperiment recorded)
    {
        if (Path.GetDirectoryName(Path.GetDirectoryName(folder)) is not { } data) return [];
        var ledgers = new RunFolder(data);
        return [.. ledgers.Trials(recorded.Id).Take(MostAudits).Select(trial => ledgers.Audit(recorded.Id, trial))];
    }

    private static void WriteText(string path, string text)
    {
        try
        {
            File.WriteAllText(path, text, new UTF8Encoding(false));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandFailure(ExitCodes.Failed, $"'{path}' cannot be written: {e.Message}", "Name another file with --output.");
        }
    }
}
