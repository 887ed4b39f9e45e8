using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

internal static class TrialsCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("trials", "List the trials of an experiment that meet conditions, in the order that you want.");
        var id = SharedOptions.ExperimentId(context);
        var where = Where();
        var sort = new Option<string?>("--sort") { Description = "Sort by a name as in --where. Default: the index.", HelpName = "name" };
        var descending = new Option<bool>("--descending") { Description = "The largest first." };
        var skip = new Option<int>("--skip") { Description = "Leave out so many.", HelpName = "n" }.Within(0);
        var limit = new Option<int>("--limit") { Description = "At most this many.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(0);
        var json = SharedOptions.Json();
        var form = Listing.Option();
        command.Arguments.Add(id);
        foreach (var option in new Option[] { where, sort, descending, skip, limit }) command.Options.Add(option);
        var target = new TargetOptions(command);
        command.Options.Add(json);
        command.Options.Add(form);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var query = new TrialQuery { Where = Conditions(parsed, where), Sort = parsed.GetValue(sort), Descending = parsed.GetValue(descending), Skip = parsed.GetValue(skip), Take = parsed.GetValue(limit) };
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, parsed.GetRequiredValue(id), cancellationToken);
                var (trials, matched) = await FindAsync(cluster, experiment.Summary.Id, query, cancellationToken);
                if (parsed.GetValue(json) || parsed.GetValue(form) == ListFormat.Json)
                {
                    context.Terminal.WriteRaw(ClientJson.Text(new TrialsDocument(experiment.Summary.Id, matched, [.. trials.Select(TrialDocument.Of)])));
                    return ExitCodes.Ok;
                }

                Listing.Write(context.Terminal, parsed.GetValue(form), trials, Columns(experiment, trials, parsed.GetValue(form), context.Time), trial => string.Create(CultureInfo.InvariantCulture, $"{experiment.Summary.Id}/{trial.Index}"));
                if (trials.Count < matched && parsed.GetValue(form) is ListFormat.Table or ListFormat.Wide)
                    context.Terminal.Note($"{trials.Count} of {Words.Count(matched, "trial")} shown. Page with --skip and --limit.");
                return ExitCodes.Ok;
            }
        });
        return command;
    }

    public static Option<string[]> Where() => new("--where", "-w")
    {
        Description = "Only trials with this: a searched parameter (by its path or the end of it), a metric, index, state or step, one of < <= > >= = !=, and a value, such as 'learningRate<1e-3'. Repeatable.", HelpName = "condition",
    };

    /// <exception cref="CommandFailure">One is none.</exception>
    public static IReadOnlyList<TrialCondition> Conditions(ParseResult parsed, Option<string[]> where)
    {
        try
        {
            return [.. (parsed.GetValue(where) ?? []).Select(TrialCondition.Parse)];
        }
        catch (ArgumentException e)
        {
            throw new CommandFailure(ExitCodes.Invalid, e.Message, "Put it in quotes: shells take < and > for files.");
        }
    }

    /// <summary>All trials of a query, page after page.</summary>
    public static async Task<(IReadOnlyList<TrialSnapshot> Trials, int Matched)> FindAsync(Connection.IClusterConnection cluster, string id, TrialQuery query, CancellationToken cancellationToken)
    {
        var (trials, matched) = (new List<TrialSnapshot>(), 0);
        do
        {
            if (await cluster.FindTrialsAsync(id, query with { Skip = query.Skip + trials.Count, Take = Math.Min(ExperimentSnapshot.MostTrials, query.Take - trials.Count) }, cancellationToken) is not { } page) break;
            trials.AddRange(page.Trials);
            matched = page.Matched;
            if (page.Trials.Count == 0) break;
        }
        while (trials.Count < query.Take && query.Skip + trials.Count < matched);
        return (trials, matched);
    }

    private static List<ListColumn<TrialSnapshot>> Columns(ExperimentSnapshot experiment, IReadOnlyList<TrialSnapshot> trials, ListFormat form, TimeProvider time)
    {
        var paths = trials.SelectMany(trial => trial.Parameters.Keys).Distinct().ToList();
        var objectives = ExperimentView.Objectives(experiment.SpecJson);
        // A script may ask for any name that there is; people read the same number once.
        var names = form == ListFormat.Csv ? trials.SelectMany(trial => trial.Metrics.Keys).Distinct().Order(StringComparer.Ordinal) : MetricNames.Once([.. trials.Select(trial => trial.Metrics)]).AsEnumerable();
        var others = names.Except([.. objectives, "loss"]);
        return
        [
            new("TRIAL", trial => trial.Index.ToString(CultureInfo.InvariantCulture), trial => trial.Index.ToString(CultureInfo.InvariantCulture) + (trial.Index == experiment.BestTrial ? " [yellow]★[/]" : "")),
            new("STATE", trial => Words.State(trial.State), trial => Words.StateMarkup(trial.State)),
            .. paths.Select(path => new ListColumn<TrialSnapshot>(Words.Short(path, paths), trial => trial.Parameters.GetValueOrDefault(path, ""))),
            .. objectives.Select(metric => Metric(metric, wide: false)),
            .. objectives.Contains("loss") ? Enumerable.Empty<ListColumn<TrialSnapshot>>() : [Metric("loss", wide: false)],
            new("CURVE", trial => "", trial => $"[grey]{Bar.Curve(trial.LossHistory, 12)}[/]", Drawn: true),
            new("STEP", trial => trial.Step.ToString(CultureInfo.InvariantCulture), trial => $"{trial.Step}/{trial.Steps}"),
            new("SECONDS", trial => Seconds(trial)?.ToString("0.###", CultureInfo.InvariantCulture) ?? "", trial => Seconds(trial) is { } seconds ? Words.Span(TimeSpan.FromSeconds(seconds)) : ""),
            .. others.Select(metric => Metric(metric, wide: true)),
            new("SHA256", trial => trial.ParametersSha256 ?? "", trial => trial.ParametersSha256?[..8] ?? "", Wide: true),
            new("REASON", trial => trial.Reason ?? "", Wide: true),
        ];

        double? Seconds(TrialSnapshot trial) => trial.StartedAt is { } start ? ((trial.EndedAt ?? time.GetUtcNow()) - start).TotalSeconds : null;

        static ListColumn<TrialSnapshot> Metric(string metric, bool wide) =>
            new(metric, trial => trial.Metrics.TryGetValue(metric, out var value) ? value.ToString("r", CultureInfo.InvariantCulture) : "", trial => trial.Metrics.TryGetValue(metric, out var value) ? Words.Number(value) : "", wide);
    }
}
