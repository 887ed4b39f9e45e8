using System.CommandLine;
using System.Text;
using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Grains.Audit;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ReportCommand
{
    /// <summary>Reading a ledger takes milliseconds; of more trials than these the first are read.</summary>
    private const int MostAudits = 200;

    public static Command Create(ClientContext context)
    {
        var command = new Command("report", "Write what an experiment gave as one page for the browser, with pictures, charts, the gradient's proof and all that is needed to repeat it. Several are compared.");
        var ids = new Argument<string[]>("ID") { Description = "Id of an ended experiment, the beginning of one, or the folder of its results.", Arity = ArgumentArity.OneOrMore };
        var output = new Option<string?>("--output", "-o") { Description = "File to write; the numbers go to a .json beside it. Default: report.html in the experiment's folder.", HelpName = "file" };
        command.Arguments.Add(ids);
        command.Options.Add(output);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var experiments = new List<ReportedExperiment>();
            var first = "";
            foreach (var text in parsed.GetRequiredValue(ids))
            {
                var folder = await FolderAsync(parsed, text, cancellationToken);
                if (experiments.Count == 0) first = folder;
                var recorded = RecordedExperiment.Load(folder);
                var audits = Audits(folder, recorded);
                experiments.Add(new(recorded, audits, Verdict.Of(recorded, audits)));
            }

            var page = Path.GetFullPath(Path.Combine(context.CurrentDirectory, parsed.GetValue(output) ?? Path.Combine(first, experiments.Count == 1 ? "report.html" : "comparison.html")));
            var document = JsonSerializer.Serialize(new ReportDocument([.. experiments.Select(experiment => experiment.Verdict)]), RecordedJson.Reading.ReportDocument);
            Write(page, ReportPage.Of(experiments, context.Time.GetUtcNow()));
            // report.json is the record that this was made from.
            var numbers = Path.ChangeExtension(page, parsed.GetValue(output) is null ? ".verdict.json" : ".json");
            Write(numbers, document + "\n");
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(document);
                return ExitCodes.Ok;
            }

            foreach (var experiment in experiments)
            {
                if (experiments.Count > 1) context.Terminal.Line($"[bold]{Markup.Escape(experiment.Verdict.Id)}[/]");
                foreach (var sentence in experiment.Verdict.Sentences) context.Terminal.Line(Markup.Escape(sentence));
            }

            context.Terminal.Line();
            context.Terminal.Line($"Page     {Markup.Escape(context.Short(page))}");
            context.Terminal.Line($"Numbers  {Markup.Escape(context.Short(numbers))}");
            return ExitCodes.Ok;
        });
        return command;

        async Task<string> FolderAsync(ParseResult parsed, string text, CancellationToken cancellationToken)
        {
            var given = Path.GetFullPath(Path.Combine(context.CurrentDirectory, text));
            if (Directory.Exists(given) && (File.Exists(Path.Combine(given, "report.json")) || text.Contains('/', StringComparison.Ordinal))) return given;
            var where = target.Target(parsed, context);
            if (where.DataFolder is { } data)
            {
                var root = Path.Combine(data, "experiments");
                string[] known = Directory.Exists(root) ? [.. Directory.GetDirectories(root).Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal)] : [];
                return Path.Combine(root, ExperimentLookup.Among(known, text, $"The data folder '{data}' holds no results of any experiment yet."));
            }

            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var folder = (await ExperimentLookup.FindAsync(cluster, text, cancellationToken)).ArtifactFolder;
                return !ArtifactList.IsAddress(folder) && Directory.Exists(folder) ? folder
                    : throw new CommandFailure(ExitCodes.Failed, $"The results of '{text}' are at {folder}, which this machine does not see.", "Copy that folder here and give it in place of the id.");
            }
        }
    }

    /// <summary>From the ledgers beside the results, where these lie in a data folder.</summary>
    private static List<TrialAudit> Audits(string folder, RecordedExperiment recorded)
    {
        if (Path.GetDirectoryName(Path.GetDirectoryName(folder)) is not { } data) return [];
        var ledgers = new RunFolder(data);
        return [.. ledgers.Trials(recorded.Id).Take(MostAudits).Select(trial => ledgers.Audit(recorded.Id, trial))];
    }

    private static void Write(string path, string text)
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
