using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using SkiaSharp;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class GridCommand
{
    /// <summary>Pixels between pictures.</summary>
    private const int Gap = 4;

    public static Command Create(ClientContext context)
    {
        var command = new Command("grid", "Show the samples of several trials beside each other, of the same noise: in the terminal, and with --into as one picture. With --x and --y trials lie by their parameters.");
        var id = SharedOptions.ExperimentId();
        var (x, y) = (new Option<string?>("--x") { Description = "Parameter from left to right, by its path or the end of it.", HelpName = "path" }, new Option<string?>("--y") { Description = "Parameter from top to bottom.", HelpName = "path" });
        var where = TrialsCommand.Where();
        var limit = new Option<int>("--limit") { Description = "At most this many trials, the best first.", DefaultValueFactory = _ => 12, HelpName = "n" }.Within(1, 200);
        var picture = new Option<string>("--picture") { Description = "Which picture of each trial.", DefaultValueFactory = _ => "after.png", HelpName = "name" };
        var into = new Option<string?>("--into") { Description = "PNG file to write.", HelpName = "file" };
        command.Arguments.Add(id);
        foreach (var option in new Option[] { x, y, where, limit, picture, into }) command.Options.Add(option);
        picture.AcceptOnlyFromAmong("after.png", "before.png", "before-after.png");
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var conditions = TrialsCommand.Conditions(parsed, where);
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, parsed.GetRequiredValue(id), cancellationToken);
                if (ArtifactList.IsAddress(experiment.ArtifactFolder))
                    throw new CommandFailure(ExitCodes.Failed, $"The results of '{experiment.Summary.Id}' are in {experiment.ArtifactFolder}, not on this machine.", "Fetch them with your bucket's own tool.");
                var objective = AdjointDpm.Grains.Specs.ExperimentSpecJson.Deserialize(experiment.SpecJson).Ranked()[0];
                var (trials, _) = await TrialsCommand.FindAsync(cluster, experiment.Summary.Id, new TrialQuery { Where = conditions, Sort = objective.Metric, Descending = objective.Goal == AdjointDpm.Grains.Specs.Goal.Maximize, Take = parsed.GetValue(limit) }, cancellationToken);
                var shown = trials.Select(trial => (Trial: trial, Path: Path.Combine(experiment.ArtifactFolder, string.Create(CultureInfo.InvariantCulture, $"trial-{trial.Index}"), parsed.GetRequiredValue(picture)))).Where(one => File.Exists(one.Path)).ToList();
                if (shown.Count == 0)
                    throw new CommandFailure(ExitCodes.Failed, $"No such trial of '{experiment.Summary.Id}' has {parsed.GetRequiredValue(picture)} on this machine.", "Trials have pictures once they have succeeded. Look with 'adpm trials ID'.");
                var columns = Values(shown, parsed.GetValue(x), "--x");
                var rows = Values(shown, parsed.GetValue(y), "--y");
                foreach (var (trial, path) in shown)
                    PictureView.Show(context, Label(trial, objective.Metric), path);
                if (parsed.GetValue(into) is { } file)
                {
                    var full = Path.GetFullPath(Path.Combine(context.CurrentDirectory, file));
                    Write(full, shown, parsed.GetValue(x), columns, parsed.GetValue(y), rows);
                    if (columns.Count > 0) context.Terminal.Note(Markup.Escape($"From left to right {parsed.GetValue(x)}: {string.Join(", ", columns)}"));
                    if (rows.Count > 0) context.Terminal.Note(Markup.Escape($"From top to bottom {parsed.GetValue(y)}: {string.Join(", ", rows)}"));
                    context.Terminal.Line($"Grid     {Markup.Escape(context.Short(full))}");
                }

                return ExitCodes.Ok;
            }
        });
        return command;
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
    private static void Write(string file, List<(TrialSnapshot Trial, string Path)> shown, string? x, List<string> columns, string? y, List<string> rows)
    {
        var wide = columns.Count > 0 ? columns.Count : rows.Count > 0 ? 1 : (int)Math.Ceiling(Math.Sqrt(shown.Count));
        var high = rows.Count > 0 ? rows.Count : columns.Count > 0 ? 1 : (shown.Count + wide - 1) / wide;
        var pictures = new SKBitmap?[wide * high];
        try
        {
            for (var i = 0; i < shown.Count; i++)
            {
                var place = x is null && y is null ? i : (y is null ? 0 : rows.IndexOf(TrialValues.Of(shown[i].Trial, y) ?? "")) * wide + (x is null ? 0 : columns.IndexOf(TrialValues.Of(shown[i].Trial, x) ?? ""));
                if (place >= 0 && place < pictures.Length) pictures[place] ??= SKBitmap.Decode(shown[i].Path);
            }

            var (width, height) = (pictures.Max(one => one?.Width ?? 0), pictures.Max(one => one?.Height ?? 0));
            using var sheet = new SKBitmap(wide * (width + Gap) - Gap, high * (height + Gap) - Gap);
            using (var canvas = new SKCanvas(sheet))
            {
                canvas.Clear(SKColors.White);
                for (var i = 0; i < pictures.Length; i++)
                    if (pictures[i] is { } one) canvas.DrawBitmap(one, i % wide * (width + Gap), i / wide * (height + Gap));
            }

            using var encoded = sheet.Encode(SKEncodedImageFormat.Png, 100);
            using var stream = File.Create(file);
            encoded.SaveTo(stream);
        }
        finally
        {
            foreach (var one in pictures) one?.Dispose();
        }
    }
}
