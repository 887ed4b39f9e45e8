using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ReportCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("report", "Write what an experiment gave as one page for the browser, with pictures, charts, the gradient's proof and all that is needed to repeat it. Several are compared.");
        var ids = new Argument<string[]>("ID") { Description = "Id of an ended experiment, the beginning of one, or the folder of its results.", Arity = ArgumentArity.OneOrMore };
        var output = new Option<string?>("--output", "-o") { Description = "File to write; the numbers go to a .verdict.json beside it. Default: report.html in the experiment's folder, or ID.html here when that is on another machine.", HelpName = "file" };
        var plan = new Option<bool>("--plan") { Description = "Measure on this machine what memory the best trial's gradient takes by method, and put it beside what its shards held. Loads the model." };
        ids.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: false));
        command.Arguments.Add(ids);
        command.Options.Add(output);
        command.Options.Add(plan);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var fetched = new FetchedResults();
            var (folders, experiments) = (new List<(string Folder, bool Lasting)>(), new List<ReportedExperiment>());
            foreach (var text in parsed.GetRequiredValue(ids)) folders.Add(await FolderAsync(parsed, fetched, text, cancellationToken));
            foreach (var (folder, lasting) in folders) experiments.Add(ReportWriter.Read(folder, lasting));
            if (parsed.GetValue(plan))
                for (var i = 0; i < experiments.Count; i++) experiments[i] = experiments[i] with { Plan = await PlanAsync(experiments[i].Recorded, cancellationToken) };
            var place = parsed.GetValue(output) is { } name ? Path.GetFullPath(Path.Combine(context.CurrentDirectory, name)) : folders[0].Lasting ? Path.Combine(folders[0].Folder, experiments.Count == 1 ? ReportWriter.PageName : "comparison.html")
                : Path.Combine(context.CurrentDirectory, experiments.Count == 1 ? $"{experiments[0].Recorded.Id}.html" : "comparison.html");
            var written = ReportWriter.Write(experiments, place, context.Time);
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(written.Document);
                return ExitCodes.Ok;
            }

            foreach (var verdict in written.Verdicts)
            {
                if (written.Verdicts.Count > 1) context.Terminal.Line($"[bold]{Markup.Escape(verdict.Id)}[/]");
                foreach (var sentence in verdict.Sentences) context.Terminal.Line(Markup.Escape(sentence));
            }

            context.Terminal.Line();
            context.Terminal.Line($"Page     {Markup.Escape(context.Short(written.Page))}");
            context.Terminal.Line($"Numbers  {Markup.Escape(context.Short(written.Numbers))}");
            return ExitCodes.Ok;
        });
        return command;

        async Task<ShardMemory?> PlanAsync(RecordedExperiment recorded, CancellationToken cancellationToken)
        {
            try
            {
                var spec = SpecOverrides.Apply(recorded.Report.Spec.ToJsonString(ExperimentSpecJson.Options), [.. recorded.Best?.Parameters ?? new Dictionary<string, string>()]);
                return (await ToolRun.AskAsync(context, new PlanRequest(spec), cancellationToken)).Memory;
            }
            catch (SpecException e)
            {
                throw new CommandFailure(ExitCodes.Failed, $"The spec of '{recorded.Id}' is of another version, so it cannot be planned: {e.Message}", "Leave --plan out.", e);
            }
        }

        async Task<(string Folder, bool Lasting)> FolderAsync(ParseResult parsed, FetchedResults fetched, string text, CancellationToken cancellationToken)
        {
            var given = Path.GetFullPath(Path.Combine(context.CurrentDirectory, text));
            if (Directory.Exists(given) && (File.Exists(Path.Combine(given, ResultNames.Report)) || text.Contains('/', StringComparison.Ordinal))) return (given, true);
            var where = target.Target(parsed, context);
            if (where.DataFolder is { } data)
            {
                var root = Path.Combine(data, "experiments");
                string[] known = Directory.Exists(root) ? [.. Directory.GetDirectories(root).Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal)] : [];
                return (Path.Combine(root, ExperimentLookup.Among(known, text, $"The data folder '{data}' holds no results of any experiment yet.")), true);
            }

            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var results = fetched.Add(new Results(context, cluster, await ExperimentLookup.FindAsync(cluster, text, cancellationToken)));
                if (!await results.FetchReportAsync(cancellationToken)) throw new CommandFailure(ExitCodes.Failed, $"'{text}' has no report.json, which is written when an experiment ends.", "Wait for its end with 'adpm watch ID', or look at it now with 'adpm show ID'.");
                if (!results.IsHere)
                    foreach (var trial in RecordedExperiment.Load(results.Folder).Ranked().Take(ReportPictures.MostTrials))
                        await results.FetchAsync(trial.Index, file => file.Path is "before.png" or "after.png" or ResultNames.Proof || file.Path.StartsWith("steps/", StringComparison.Ordinal), cancellationToken);
                return (results.Folder, results.IsHere);
            }
        }
    }
}
