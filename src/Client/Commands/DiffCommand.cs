using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Rendering.Pictures;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class DiffCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("diff", "Compare two trials: what their specs differ in, what came out, and their pictures of the same noise. An experiment stands for its best trial.");
        var (a, b) = (TrialName.Argument(context, "A"), TrialName.Argument(context, "B"));
        command.Arguments.Add(a);
        command.Arguments.Add(b);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (first, second) = (TrialName.Parse(parsed.GetRequiredValue(a)), TrialName.Parse(parsed.GetRequiredValue(b)));
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                Side[] sides = [await SideAsync(cluster, first, cancellationToken), await SideAsync(cluster, second, cancellationToken)];
                var spec = SpecLeaves.Differences(sides[0].Spec, sides[1].Spec).Select(leaf => new DifferenceDocument(leaf.Path, leaf.A, leaf.B)).ToList();
                var metrics = sides[0].Trial.Metrics.Keys.Union(sides[1].Trial.Metrics.Keys).Order(StringComparer.Ordinal).Select(name => new MetricDifferenceDocument(name, Of(sides[0], name), Of(sides[1], name))).ToList();
                if (parsed.GetValue(json))
                {
                    context.Terminal.WriteRaw(ClientJson.Text(new DiffDocument(sides[0].Name, sides[1].Name, sides[0].Trial.ParametersSha256 == sides[1].Trial.ParametersSha256, spec, metrics)));
                    return ExitCodes.Ok;
                }

                var once = MetricNames.Once(sides[0].Trial.Metrics, sides[1].Trial.Metrics).ToHashSet();
                Show(context, sides, spec, [.. metrics.Where(metric => once.Contains(metric.Name))]);
                foreach (var side in sides)
                {
                    using var results = new Results(context, cluster, side.Experiment);
                    if (await results.PathAsync(side.Trial.Index, "after.png", cancellationToken) is { } path) PictureView.Show(context, side.Name, path);
                }

                return ExitCodes.Ok;
            }
        });
        return command;
    }

    private static void Show(ClientContext context, Side[] sides, List<DifferenceDocument> spec, List<MetricDifferenceDocument> metrics)
    {
        if (spec.Count == 0) context.Terminal.Line("Their specs are the same.");
        else
            Listing.Write(context.Terminal, ListFormat.Table, spec, [new("SPEC", leaf => leaf.Path), new(sides[0].Name, leaf => leaf.A), new(sides[1].Name, leaf => leaf.B)], leaf => leaf.Path);
        if (metrics.Count > 0)
        {
            context.Terminal.Line();
            Listing.Write(context.Terminal, ListFormat.Table, metrics, [new("METRIC", metric => metric.Name), new(sides[0].Name, metric => Number(metric.A)), new(sides[1].Name, metric => Number(metric.B)), new("CHANGE", metric => metric is { A: { } from, B: { } to } ? Verdict.Percent(from, to).Trim(' ', '(', ')') : "")], metric => metric.Name);
        }

        context.Terminal.Line();
        context.Terminal.Line(sides[0].Trial.ParametersSha256 is { } sha && sha == sides[1].Trial.ParametersSha256 ? $"Both ended in the same parameters, {sha[..8]}." : "They ended in other parameters.");

        static string Number(double? value) => value is { } number ? Words.Number(number) : "–";
    }

    private static double? Of(Side side, string metric) => side.Trial.Metrics.TryGetValue(metric, out var value) ? value : null;

    private static async Task<Side> SideAsync(IClusterConnection cluster, (string Id, int? Trial) name, CancellationToken cancellationToken)
    {
        var experiment = await ExperimentLookup.FindAsync(cluster, name.Id, cancellationToken);
        var id = experiment.Summary.Id;
        var index = name.Trial ?? experiment.BestTrial ?? throw new CommandFailure(ExitCodes.Failed, $"No trial of '{id}' has succeeded, so none stands for it.", "Name one as ID/TRIAL.");
        if (await cluster.GetTrialsAsync(id, index, 1, cancellationToken) is not [var trial])
            throw new CommandFailure(ExitCodes.Failed, $"'{id}' has no trial {index}.", "List them with 'adpm trials ID'.");
        return new(string.Create(CultureInfo.InvariantCulture, $"{id}/{index}"), experiment, trial, JsonNode.Parse(SpecOverrides.Apply(experiment.SpecJson, [.. trial.Parameters])));
    }

    private sealed record Side(string Name, ExperimentSnapshot Experiment, TrialSnapshot Trial, JsonNode? Spec);
}
