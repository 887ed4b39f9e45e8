using System.Text;
using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

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
    /// <summary>Name of the page of one experiment, in its folder.</summary>
    public const string PageName = "report.html";

    /// <summary>Reading a ledger takes milliseconds; of more trials than these the first are read.</summary>
    private const int MostAudits = 200;

    /// <summary>What lies in an experiment's folder, and what its ledgers say where they are at hand.</summary>
    /// <exception cref="CommandFailure">It cannot be read.</exception>
    public static ReportedExperiment Read(string folder, bool lasting = true)
    {
        var recorded = RecordedExperiment.Load(folder, lasting);
        var audits = Audits(folder, recorded);
        return new ReportedExperiment(recorded, audits, Verdict.Of(recorded, audits));
    }

    /// <param name="experiments">One, or several to compare.</param>
    /// <param name="path">File to write.</param>
    /// <param name="time">Clock.</param>
    /// <exception cref="CommandFailure">It cannot be written.</exception>
    public static WrittenReport Write(IReadOnlyList<ReportedExperiment> experiments, string path, TimeProvider time)
    {
        // The record that this was made from is called report.json, often beside report.html: no name that the page may have leads to it.
        var numbers = Path.ChangeExtension(path, ".verdict.json");
        if (Path.GetExtension(path).Equals(".json", StringComparison.OrdinalIgnoreCase))
            throw new CommandFailure(ExitCodes.Invalid, $"--output: '{path}' is the name of a JSON file, and what is written is a page.", $"Name it like {Path.GetFileNameWithoutExtension(path)}.html; the numbers go to {Path.GetFileName(numbers)} beside it.");
        var document = JsonSerializer.Serialize(new ReportDocument([.. experiments.Select(experiment => experiment.Verdict)]), RecordedJson.Reading.ReportDocument);
        WriteText(path, ReportPage.Of(experiments, Path.GetDirectoryName(path) ?? path, time.GetUtcNow()));
        WriteText(numbers, document + "\n");
        return new(path, numbers, document, [.. experiments.Select(experiment => experiment.Verdict)]);
    }

    /// <summary>The page of an experiment that has ended, in its folder, where that is on this machine. The run has ended well or not without it.</summary>
    public static void WriteBeside(ClientContext context, ExperimentSnapshot ended)
    {
        var folder = ended.ArtifactFolder;
        if (ArtifactList.IsAddress(folder) || !File.Exists(Path.Combine(folder, ResultNames.Report))) return;
        try
        {
            Write([Read(folder)], Path.Combine(folder, PageName), context.Time);
        }
        catch (CommandFailure e)
        {
            context.Terminal.Note($"There is no page: {Markup.Escape(e.Message)}");
        }
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
