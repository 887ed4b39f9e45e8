using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering.Pictures;
using AdjointDpm.Grains.Experiments;
using SkiaSharp;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class GridCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("grid", "Show the samples of several trials beside each other, of the same noise: in the terminal, and with --into as one picture. With --x and --y trials lie by their parameters.");
        var id = SharedOptions.ExperimentId(context);
        var (x, y) = (new Option<string?>("--x") { Description = "Parameter from left to right, by its path or the end of it.", HelpName = "path" }, new Option<string?>("--y") { Description = "Parameter from top to bottom.", HelpName = "path" });
        var where = TrialsCommand.Where();
        var limit = new Option<int>("--limit") { Description = "At most this many trials, the best first.", DefaultValueFactory = _ => 12, HelpName = "n" }.Within(1, 200);
        var picture = new Option<string>("--picture") { Description = "Which picture of each trial.", DefaultValueFactory = _ => "after.png", HelpName = "name" };
        var into = new Option<string?>("--into") { Description = "PNG file to write.", HelpName = "file" };
        var json = SharedOptions.Json();
        command.Arguments.Add(id);
        foreach (var option in new Option[] { x, y, where, limit, picture, into, json }) command.Options.Add(option);
        picture.AcceptOnlyFromAmong("after.png", "before.png", "before-after.png");
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var conditions = TrialsCommand.Conditions(parsed, where);
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, parsed.GetRequiredValue(id), cancellationToken);
                using var results = new Results(context, cluster, experiment);
                var objective = AdjointDpm.Grains.Specs.ExperimentSpecJson.Deserialize(experiment.SpecJson).Ranked()[0];
                var (trials, _) = await TrialsCommand.FindAsync(cluster, experiment.Summary.Id, new TrialQuery { Where = conditions, Sort = objective.Metric, Descending = objective.Goal == AdjointDpm.Grains.Specs.Goal.Maximize, Take = parsed.GetValue(limit) }, cancellationToken);
                var shown = new List<(TrialSnapshot Trial, string Path)>();
                foreach (var trial in trials)
                    if (await results.PathAsync(trial.Index, parsed.GetRequiredValue(picture), cancellationToken) is { } path) shown.Add((trial, path));
                if (shown.Count == 0)
                    throw new CommandFailure(ExitCodes.Failed, $"No such trial of '{experiment.Summary.Id}' has {parsed.GetRequiredValue(picture)}.", "Trials have pictures once they have succeeded. Look with 'adpm trials ID'.");
                using var grid = Grid(shown, parsed.GetValue(x), parsed.GetValue(y), objective.Metric);
                if (!parsed.GetValue(json)) Show(context, grid, shown, objective.Metric);
                string? full = null;
                if (parsed.GetValue(into) is { } file)
                {
                    full = Path.GetFullPath(Path.Combine(context.CurrentDirectory, file));
                    using var sheet = grid.Draw();
                    using var encoded = sheet.Encode(SKEncodedImageFormat.Png, 100);
                    await File.WriteAllBytesAsync(full, encoded.ToArray(), cancellationToken);
                    if (!parsed.GetValue(json)) context.Terminal.Line($"Grid     {Markup.Escape(context.Short(full))}");
                }

                if (parsed.GetValue(json))
                    context.Terminal.WriteRaw(ClientJson.Text(new GridDocument(experiment.Summary.Id, parsed.GetValue(x), parsed.GetValue(y), full,
                        [.. shown.Select(one => new GridTrialDocument(one.Trial.Index, one.Trial.Metrics.TryGetValue(objective.Metric, out var value) ? value : null, one.Trial.Parameters, one.Path))])));

                return ExitCodes.Ok;
            }
        });
        return command;
    }

    /// <summary>One grid in the terminal; elsewhere a line for each picture.</summary>
    private static void Show(ClientContext context, PictureGrid grid, List<(TrialSnapshot Trial, string Path)> shown, string metric)
    {
        var terminal = context.Terminal;
        if (terminal.Pictures == PictureProtocol.None)
            foreach (var (trial, path) in shown) terminal.Line($"[bold]{Markup.Escape(Label(trial, metric))}[/]  {Markup.Escape(context.Short(path))}");
        else if (terminal.Pictures == PictureProtocol.Blocks)
            terminal.Write(grid.Blocks(terminal.Out.Width));
        else
        {
            using var sheet = grid.Draw();
            PictureView.Show(terminal, sheet);
        }
    }

    private static string Label(TrialSnapshot trial, string metric) => string.Create(CultureInfo.InvariantCulture,
        $"trial {trial.Index}{(trial.Metrics.TryGetValue(metric, out var value) ? $", {metric} {Words.Number(value)}" : "")}{string.Concat(trial.Parameters.Select(parameter => $", {parameter.Key}={parameter.Value}"))}");

    /// <summary>The values of a parameter, in their order; none when none was named.</summary>
    private static List<string> Values(List<(TrialSnapshot Trial, string Path)> shown, string? name, string option)
    {
        if (name is null) return [];
        var values = shown.Select(one => TrialValues.Of(one.Trial, name)).OfType<string>().Distinct().Order(Comparer<string>.Create(TrialValues.Compare)).ToList();
        return values.Count > 0 ? values
            : throw new CommandFailure(ExitCodes.Invalid, $"{option} is '{name}', which no trial has.", $"These are searched: {string.Join(", ", shown[0].Trial.Parameters.Keys)}.");
    }

    /// <summary>Trials by their values; without --x and --y in rows, the best first. Of several in one place the best.</summary>
    private static PictureGrid Grid(List<(TrialSnapshot Trial, string Path)> shown, string? x, string? y, string metric)
    {
        var (columns, rows) = (Values(shown, x, "--x"), Values(shown, y, "--y"));
        var wide = columns.Count > 0 ? columns.Count : rows.Count > 0 ? 1 : (int)Math.Ceiling(Math.Sqrt(shown.Count));
        var high = rows.Count > 0 ? rows.Count : columns.Count > 0 ? 1 : (shown.Count + wide - 1) / wide;
        var cells = new GridCell?[wide * high];
        for (var i = 0; i < shown.Count; i++)
        {
            var (trial, path) = shown[i];
            var place = x is null && y is null ? i : ((y is null ? 0 : rows.IndexOf(TrialValues.Of(trial, y) ?? "")) * wide) + (x is null ? 0 : columns.IndexOf(TrialValues.Of(trial, x) ?? ""));
            if (place < 0 || place >= cells.Length || cells[place] is not null || SKBitmap.Decode(path) is not { } picture) continue;
            cells[place] = new(string.Create(CultureInfo.InvariantCulture, $"{trial.Index}{(trial.Metrics.TryGetValue(metric, out var value) ? ": " + Words.Number(value) : "")}"), picture);
        }

        if (cells.All(cell => cell is null))
            throw new CommandFailure(ExitCodes.Failed, "None of the pictures can be read.", "Look at them in the folders of the trials.");
        return new([.. columns.Select(value => $"{Last(x)}={value}")], [.. rows.Select(value => $"{Last(y)}={value}")], wide, cells);

        static string Last(string? path) => path![(path!.LastIndexOf('.') + 1)..];
    }
}
