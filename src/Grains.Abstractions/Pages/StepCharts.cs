using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Pages;

/// <summary>A trial step by step: curves, where on the way the gradient is large, time and memory. The same on the live page and in the report.</summary>
internal static class StepCharts
{
    private const int MostPoints = 400, MostColumns = 100, MostBars = 24, MostMetrics = 12, MostLooks = 60;

    /// <summary>The loss, its parts and rewards in training, each with its held-out means as dots; null before the first step.</summary>
    public static XElement? Curves(IReadOnlyList<TrialStep> steps)
    {
        var taken = steps.Where(step => step.Metrics.Count > 0).ToList();
        if (taken.Count == 0)
            return null;
        var looks = Looks(steps);
        // The loss first, then its parts and rewards; the gradient's norm has a place of its own.
        var names = Trained(taken);
        names.AddRange(looks.SelectMany(step => step.Profile!.HeldOut!.Keys).Distinct().Except(names).Order(StringComparer.Ordinal));
        return Charts(names.Take(MostMetrics).Select(name => Figure(
            Chart.Lines($"{name} by step", "step", [new ChartLine(name, Points(taken, name), Best: true)],
                [.. looks.Where(step => step.Profile!.HeldOut!.ContainsKey(name)).Select(step => new ChartDot($"held-out {name} after step {step.Step}: {Words.Number(step.Profile!.HeldOut![name])}", step.Step, step.Profile!.HeldOut![name], Best: false))]),
            name + (looks.Any(step => step.Profile!.HeldOut!.ContainsKey(name)) ? taken.Any(step => step.Metrics.ContainsKey(name)) ? ": line in training, dots on held-out noise" : ", on held-out noise" : ""))));
    }

    /// <summary>What training makes better against what it never saw, from look to look: a path that turns back in one while it goes on in the other is a reward that is being gamed. Null with fewer than three looks.</summary>
    public static XElement? AgainstHeldOut(IReadOnlyList<TrialStep> steps)
    {
        var (taken, looks) = (steps.Where(step => step.Metrics.Count > 0).ToList(), Looks(steps));
        if (looks.Count < 3 || taken.Count == 0)
            return null;
        var judged = looks.SelectMany(step => step.Profile!.HeldOut!.Keys).Distinct().Order(StringComparer.Ordinal).ToList();
        // Rewards where there are any, else the loss.
        var trained = Trained(taken).Where(name => name.Contains("reward", StringComparison.OrdinalIgnoreCase)).DefaultIfEmpty("loss").ToList();
        var planes = from x in trained from y in judged where x != y || judged.Count == 1 select (x, y);
        return Charts(planes.Take(MostMetrics / 2).Select(plane =>
        {
            var points = Chart.Thin(looks, MostLooks).Select(look => (look.Step, X: Near(taken, look.Step, plane.x), Y: look.Profile!.HeldOut!.GetValueOrDefault(plane.y, double.NaN))).Where(point => double.IsFinite(point.X) && double.IsFinite(point.Y)).ToList();
            return points.Count < 3 ? null : Figure(
                Chart.Way($"held-out {plane.y} by {plane.x} in training", $"{plane.x} in training", $"held-out {plane.y}", [.. points.Select(point => ($"after step {point.Step}: {plane.x} {Words.Number(point.X)}, held-out {plane.y} {Words.Number(point.Y)}", point.X, point.Y))]),
                $"Held-out {plane.y} against {plane.x} in training, from look to look; the ring is the beginning, the full dot the end.");
        }).OfType<XElement>().ToList());
    }

    /// <summary>The norm of the gradient of what is trained, and that of ∂L/∂x at each denoising step; null where neither is known.</summary>
    public static XElement? Gradient(IReadOnlyList<TrialStep> steps)
    {
        var taken = steps.Where(step => step.Metrics.ContainsKey("gradientNorm")).ToList();
        if (taken.Count == 0)
            return null;
        var mapped = steps.Where(step => step.Profile?.AdjointNorms is { Count: > 0 }).ToList();
        // All of one grid: an edited spec may have had another before.
        mapped = [.. mapped.Where(step => step.Profile!.AdjointNorms!.Count == mapped[^1].Profile!.AdjointNorms!.Count)];
        var points = mapped.Count == 0 ? 0 : mapped[0].Profile!.AdjointNorms!.Count;
        return Charts(
        [
            Figure(Chart.Lines("Norm of the gradient of what is trained, by step", "step", [new ChartLine("gradient norm", Points(taken, "gradientNorm"), Best: true)], []), "Norm of the gradient of what is trained, before clipping"),
            points < 2 ? null : Figure(
                Chart.Heat("Norm of the gradient at each point of the way from noise to sample, by step", "step",
                    [.. Chart.Thin(mapped, MostColumns).Select(step => (step.Step.ToString(CultureInfo.InvariantCulture), step.Profile!.AdjointNorms!))],
                    [.. Enumerable.Range(0, points).Select(point => point == 0 ? "noise" : point == points - 1 ? "sample" : string.Create(CultureInfo.InvariantCulture, $"{point}"))]),
                "Norm of ∂L/∂x at each denoising step, from noise at the top to the sample: the fuller the colour, the larger. Where it is pale the loss is not decided."),
        ]);
    }

    /// <summary>Seconds of shards and steps, and bytes of shards beside what was planned; null where nothing was observed.</summary>
    /// <param name="steps">Steps.</param>
    /// <param name="planned">Bytes that a shard was planned to hold.</param>
    public static XElement? Cost(IReadOnlyList<TrialStep> steps, long? planned)
    {
        var timed = steps.Where(step => step.Profile is { Times: not null }).ToList();
        if (timed.Count == 0)
            return null;
        var newest = timed.FindLast(step => step.Profile!.Shards is { Count: > 0 });
        var bytes = timed.Where(step => step.Profile!.PeakBytes > 0).Select(step => (X: (double)step.Step, Y: step.Profile!.PeakBytes!.Value / 1e6)).ToList();
        return Charts(
        [
            newest is null ? null : Figure(
                Chart.Bars($"Seconds of each shard of step {newest.Step} by part", "s", ["fetch", "wait", "sample", "loss", "adjoint"],
                    [.. newest.Profile!.Shards!.Take(MostBars).Select((shard, i) => ($"{i} {shard.Worker}", (IReadOnlyList<double>)[shard.Fetch, shard.Queue, shard.Forward, shard.Loss, shard.Backward]))]),
                $"Step {newest.Step}, shard by shard at its worker{(newest.Profile!.Shards!.Count > MostBars ? $" (the first {MostBars} of {newest.Profile!.Shards!.Count})" : "")}: sample from noise, loss, and the adjoint back to noise."),
            Figure(
                Chart.Bars("Seconds of the newest steps by part", "s", ["shards", "reduce", "optimise", "commit"],
                    [.. timed.TakeLast(8).Select(step => ($"step {step.Step}", (IReadOnlyList<double>)[step.Profile!.Times!.Shards, step.Profile!.Times!.Reduce, step.Profile!.Times!.Optimize, step.Profile!.Times!.Commit]))]),
                "The newest steps at the coordinator: waiting for shards, adding up, optimiser, commit."),
            bytes.Count < 2 ? null : Figure(
                Chart.Lines("Most megabytes of a shard by step", "step",
                    [new ChartLine("measured", Chart.Thin(bytes, MostPoints), Best: true), .. planned is { } plan ? new[] { new ChartLine($"planned: {Words.Size(plan)}", [(bytes[0].X, plan / 1e6), (bytes[^1].X, plan / 1e6)], Best: false) } : []], []),
                $"Most megabytes that a shard held above what was held before it{(planned is { } most ? $"; the pale line is the plan, {Words.Size(most)}" : "")}."),
        ]);
    }

    /// <summary>Where a trial's time went, as one bar for each.</summary>
    public static XElement? Times(IEnumerable<(string Name, TrialTimes Times)> trials)
    {
        var rows = trials.Where(trial => trial.Times.Parts().Any(part => part.Seconds > 0)).Take(MostBars).ToList();
        return rows.Count == 0 ? null : Figure(
            Chart.Bars("Seconds of a trial by what it waited for", "s", [.. rows[0].Times.Parts().Select(part => part.Name)], [.. rows.Select(row => (row.Name, (IReadOnlyList<double>)[.. row.Times.Parts().Select(part => part.Seconds)]))]),
            "Where the time went: loading the model, the proof, evaluations, shards' gradients, adding them up, optimiser, commits, pictures on the way, results.");
    }

    /// <summary>Names of training's metrics, the loss first. A loss of one part is that part.</summary>
    private static List<string> Trained(List<TrialStep> taken)
    {
        var names = taken.SelectMany(step => step.Metrics.Keys).Distinct().Where(name => name != "gradientNorm").OrderBy(name => name != "loss").ThenBy(name => name, StringComparer.Ordinal).ToList();
        names.RemoveAll(name => name != "loss" && taken.All(step => Math.Abs(step.Metrics.GetValueOrDefault(name, double.NaN) - step.Metrics.GetValueOrDefault("loss")) <= 1e-6 * Math.Abs(step.Metrics.GetValueOrDefault("loss"))));
        return names;
    }

    private static List<TrialStep> Looks(IReadOnlyList<TrialStep> steps) => [.. steps.Where(step => step.Profile?.HeldOut is { Count: > 0 })];

    /// <summary>A training metric about a step: the mean of the few before it, because one step's is of one batch.</summary>
    private static double Near(List<TrialStep> taken, int step, string name)
    {
        const int Few = 5;
        var before = taken.Where(one => one.Step <= Math.Max(1, step) && one.Metrics.ContainsKey(name)).TakeLast(Few).Select(one => one.Metrics[name]).ToList();
        return before.Count > 0 ? before.Average() : double.NaN;
    }

    private static XElement? Charts(IEnumerable<XElement?> figures) => figures.OfType<XElement>().ToList() is { Count: > 0 } some ? new XElement("div", new XAttribute("class", "charts"), some) : null;

    private static XElement Figure(XElement chart, string caption) => new("figure", chart, new XElement("figcaption", caption));

    private static IReadOnlyList<(double X, double Y)> Points(List<TrialStep> steps, string name) => Chart.Thin([.. steps.Where(step => step.Metrics.ContainsKey(name)).Select(step => ((double)step.Step, step.Metrics[name]))], MostPoints);
}
