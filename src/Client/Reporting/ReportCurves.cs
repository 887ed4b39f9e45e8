using System.Xml.Linq;

namespace AdjointDpm.Client.Reporting;

/// <summary>What training did step by step, and what it did to what it never saw.</summary>
internal static class ReportCurves
{
    /// <summary>More lines than this nobody tells apart.</summary>
    private const int MostLines = 100, MostPoints = 200;

    public static object?[] Of(RecordedExperiment experiment, ReportPictures pictures)
    {
        var trials = experiment.Ranked().Where(trial => trial.LossHistory.Count > 0).Take(MostLines).ToList();
        if (trials.Count == 0)
            return [new XElement("p", "No trial took a step.")];
        var lines = trials.Select(trial => new ChartLine($"Trial {trial.Index}: {trial.Parameters()}", Thinned(trial.LossHistory), trial.Index == (experiment.Best?.Index ?? trials[0].Index))).ToList();
        var dots = trials.SelectMany(trial => new[] { ("loss.before", 0), ("loss.after", trial.Step) }.Where(dot => trial.Metrics.ContainsKey("heldOut." + dot.Item1))
            .Select(dot => new ChartDot($"Trial {trial.Index}, held-out {dot.Item1}", dot.Item2, trial.Metrics["heldOut." + dot.Item1], trial.Index == experiment.Best?.Index))).ToList();
        var content = new List<object?>
        {
            Chart.Lines("Training loss by step, and held-out loss before and after", "step", lines, dots),
            new XElement("p", new XAttribute("class", "note"), $"Lines: training loss. Dots: loss on held-out noise before and after. The best trial is coloured.{(experiment.Report.Trials.Count(trial => trial.LossHistory.Count > 0) > trials.Count ? $" The first {trials.Count} trials by objective are drawn." : "")}"),
        };
        var best = experiment.Best ?? trials[0];
        if (Verdict.Changes(experiment, best).ToList() is { Count: > 0 } changes)
            content.Add(Html.Table([$"Trial {best.Index}", "before", "after", "change"], changes.Select(change => new object[] { change.Name, Words.Number(change.Before), Words.Number(change.After), Verdict.Percent(change.Before, change.After).Trim(' ', '(', ')') + (change.IsBetter switch { true => " better", false => " worse", null => "" }) })));
        content.Add(pictures.OnTheWay(experiment, best));
        if (best.History.Count > 0)
        {
            content.Add(new XElement("h3", $"Trial {best.Index}: the loss, its parts and rewards"));
            content.Add(StepCharts.Curves(best.History));
            if (StepCharts.AgainstHeldOut(best.History) is { } plane)
            {
                content.Add(new XElement("h3", $"Trial {best.Index}: what was trained against what was not"));
                content.Add(plane);
                content.Add(new XElement("p", new XAttribute("class", "note"), "A way that turns back on the held-out side while it goes on in training is a reward that is being gamed."));
            }
            content.Add(new XElement("h3", $"Trial {best.Index}: where the gradient lives"));
            content.Add(StepCharts.Gradient(best.History));
        }
        return [.. content];
    }

    public static IReadOnlyList<(double X, double Y)> Thinned(IReadOnlyList<double> losses) => Chart.Thin([.. losses.Select((loss, i) => (i + 1.0, loss))], MostPoints);
}
