using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Silo.Web;

/// <summary>A trial as it goes: curves, where on the way the gradient is large, time and memory, pictures.</summary>
internal static class TrialPageView
{
    private const int MostPoints = 400, MostColumns = 100, MostBars = 24, MostMetrics = 12;

    public static IResult Of(ExperimentSnapshot experiment, TrialSnapshot trial, IReadOnlyList<TrialStep> steps, IReadOnlyList<ManifestFile> files, TimeProvider time)
    {
        var id = experiment.Summary.Id;
        var ended = Words.Ended(trial.State);
        var path = WebPage.AddressOf(id, trial.Index);
        return WebPage.Of($"Trial {trial.Index} of {id}", Words.Ended(experiment.Summary.State) ? null : string.Create(CultureInfo.InvariantCulture, $"/live{WebPage.AddressOf(id)}?after={experiment.Sequence}"),
            WebPage.Crumbs(WebPage.Link("/", "Experiments"), WebPage.Link(WebPage.AddressOf(id), id), WebPage.Link(path, $"trial {trial.Index}")),
            new XElement("h1", $"Trial {trial.Index}"),
            WebPage.Part("state", Facts(trial, ended, time)),
            Section("curves", "Loss and reward", Curves(steps)),
            Section("gradient", "Gradient", Gradient(steps)),
            Section("pictures", "Pictures", Pictures(path, files)),
            Section("time", "Time and memory", Cost(steps)),
            WebPage.Part("record", Record(id, trial, path, files)));
    }

    private static XElement Section(string id, string title, object? content) => WebPage.Part(id, content is null ? null : new object[] { new XElement("h2", title), content });

    private static object[] Facts(TrialSnapshot trial, bool ended, TimeProvider time) =>
    [
        WebPage.Facts(
            [
                ("state", new object[] { WebPage.State(trial.State), !ended && trial.Phase is { Length: > 0 } phase ? " " + phase : "" }),
                ("steps", new object[] { string.Create(CultureInfo.InvariantCulture, $"{trial.Step} of {trial.Steps} "), ended ? "" : new XElement("progress", new XAttribute("max", Math.Max(1, trial.Steps)), new XAttribute("value", trial.Step), new XAttribute("aria-label", "Steps")) }),
                .. trial.Parameters.Select(parameter => (parameter.Key, (object?)parameter.Value)),
                ("time", trial.StartedAt is { } start ? ended && trial.EndedAt is { } end ? Words.Span(end - start) : Words.Span(TimeSpan.FromMinutes(Math.Floor((time.GetUtcNow() - start).TotalMinutes))) + " so far" : null),
                ("shards reissued", trial.ShardsReissued > 0 ? trial.ShardsReissued : null),
                ("gradient", trial.Proof is { } proof ? proof is { Passed: true, IsEstimate: true } ? string.Create(CultureInfo.InvariantCulture, $"an estimate, cosine {proof.Cosine:f3} where it is worst") : proof.Passed ? $"proven, error {Words.Error(proof.RelativeError)}" : "NOT proven" : null),
                ("begun with", trial.BegunWith is { } origin ? $"the parameters of trial {origin}" : null),
            ]),
        trial.Reason is { Length: > 0 } reason ? new XElement("p", WebPage.Class("reason"), reason) : "",
        trial.LeanFrom is { } lean ? new XElement("p", $"A worker ran out of memory: from step {lean} on gradients are computed one sample at a time.") : "",
    ];

    private static XElement? Curves(IReadOnlyList<TrialStep> steps)
    {
        var taken = steps.Where(step => step.Metrics.Count > 0).ToList();
        if (taken.Count == 0)
            return null;
        var heldOut = steps.Where(step => step.Profile?.HeldOut is { Count: > 0 }).ToList();
        // The loss first, then its parts and rewards; the gradient's norm has a place of its own.
        var names = taken.SelectMany(step => step.Metrics.Keys).Distinct().Where(name => name != "gradientNorm").OrderBy(name => name != "loss").ThenBy(name => name, StringComparer.Ordinal).ToList();
        // A loss of one part is that part.
        names.RemoveAll(name => name != "loss" && taken.All(step => Math.Abs(step.Metrics.GetValueOrDefault(name, double.NaN) - step.Metrics.GetValueOrDefault("loss")) <= 1e-6 * Math.Abs(step.Metrics.GetValueOrDefault("loss"))));
        names.AddRange(heldOut.SelectMany(step => step.Profile!.HeldOut!.Keys).Distinct().Except(names).Order(StringComparer.Ordinal));
        return new XElement("div", WebPage.Class("charts"), names.Take(MostMetrics).Select(name => new XElement("figure",
            Chart.Lines($"{name} by step", "step", [new ChartLine(name, Points(taken, name), Best: true)],
                [.. heldOut.Where(step => step.Profile!.HeldOut!.ContainsKey(name)).Select(step => new ChartDot($"held-out {name} after step {step.Step}: {Words.Number(step.Profile!.HeldOut![name])}", step.Step, step.Profile!.HeldOut![name], Best: false))]),
            new XElement("figcaption", name, heldOut.Any(step => step.Profile!.HeldOut!.ContainsKey(name)) ? taken.Any(step => step.Metrics.ContainsKey(name)) ? ": line in training, dots on held-out noise" : ", on held-out noise" : ""))));
    }

    private static object?[]? Gradient(IReadOnlyList<TrialStep> steps)
    {
        var taken = steps.Where(step => step.Metrics.ContainsKey("gradientNorm")).ToList();
        if (taken.Count == 0)
            return null;
        var mapped = steps.Where(step => step.Profile?.AdjointNorms is { Count: > 0 }).ToList();
        // All of one grid: an edited spec may have had another before.
        mapped = [.. mapped.Where(step => step.Profile!.AdjointNorms!.Count == mapped[^1].Profile!.AdjointNorms!.Count)];
        var points = mapped.Count == 0 ? 0 : mapped[0].Profile!.AdjointNorms!.Count;
        return
        [
            new XElement("div", WebPage.Class("charts"),
                new XElement("figure", Chart.Lines("Norm of the gradient of what is trained, by step", "step", [new ChartLine("gradient norm", Points(taken, "gradientNorm"), Best: true)], []), new XElement("figcaption", "Norm of the gradient of what is trained, before clipping")),
                points < 2 ? null : new XElement("figure",
                    Chart.Heat("Norm of the gradient at each point of the way from noise to sample, by step", "step",
                        [.. Chart.Thin(mapped, MostColumns).Select(step => (step.Step.ToString(CultureInfo.InvariantCulture), step.Profile!.AdjointNorms!))],
                        [.. Enumerable.Range(0, points).Select(point => point == 0 ? "noise" : point == points - 1 ? "sample" : string.Create(CultureInfo.InvariantCulture, $"{point}"))]),
                    new XElement("figcaption", "Norm of ∂L/∂x at each denoising step, from noise at the top to the sample: the fuller the colour, the larger. Where it is pale the loss is not decided."))),
        ];
    }

    private static object[]? Cost(IReadOnlyList<TrialStep> steps)
    {
        var timed = steps.Where(step => step.Profile is { Times: not null, Shards.Count: > 0 }).ToList();
        if (timed.Count == 0)
            return null;
        var newest = timed[^1];
        var bytes = timed.Select(step => (X: (double)step.Step, Y: step.Profile!.Shards!.Max(shard => shard.PeakBytes ?? 0) / 1e6)).Where(point => point.Y > 0).ToList();
        return
        [
            new XElement("div", WebPage.Class("charts"),
                new XElement("figure", Chart.Bars($"Seconds of each shard of step {newest.Step} by part", "s", ["fetch", "wait", "forward", "loss", "backward"],
                    [.. newest.Profile!.Shards!.Take(MostBars).Select((shard, i) => ($"{i} {shard.Worker}", (IReadOnlyList<double>)[shard.Fetch, shard.Queue, shard.Forward, shard.Loss, shard.Backward]))]),
                    new XElement("figcaption", $"Step {newest.Step}, shard by shard at its worker{(newest.Profile!.Shards!.Count > MostBars ? $" (the first {MostBars} of {newest.Profile!.Shards!.Count})" : "")}: forward from noise to sample, backward by the adjoint.")),
                new XElement("figure", Chart.Bars("Seconds of the newest steps by part", "s", ["shards", "reduce", "optimise", "commit"],
                    [.. timed.TakeLast(8).Select(step => ($"step {step.Step}", (IReadOnlyList<double>)[step.Profile!.Times!.Shards, step.Profile!.Times!.Reduce, step.Profile!.Times!.Optimize, step.Profile!.Times!.Commit]))]),
                    new XElement("figcaption", "The newest steps at the coordinator: waiting for shards, adding up, optimiser, commit.")),
                bytes.Count < 2 ? null : new XElement("figure", Chart.Lines("Most megabytes of a shard by step", "step", [new ChartLine("megabytes", Chart.Thin(bytes, MostPoints), Best: true)], []), new XElement("figcaption", "Most megabytes that a shard held above what was held before it"))),
        ];
    }

    private static XElement? Pictures(string path, IReadOnlyList<ManifestFile> files)
    {
        ManifestFile? Named(string name) => files.FirstOrDefault(file => file.Path == name);
        XElement Picture(ManifestFile file, string title) => new("img", new XAttribute("alt", title), new XAttribute("src", $"{path}/files/{file.Sha256}"), new XAttribute("loading", "lazy"));
        if (Named("before.png") is not { } before || Named("after.png") is not { } after)
            return null;
        return new XElement("figure",
            new XElement("div", WebPage.Class("pair"), Picture(before, "Samples before training"), Picture(after, "Samples after training, of the same noise")),
            new XElement("label", WebPage.Class("slide"), new XAttribute("hidden", "hidden"), "before ", new XElement("input", new XAttribute("type", "range"), new XAttribute("min", "0"), new XAttribute("max", "100"), new XAttribute("value", "50"), new XAttribute("aria-label", "How much of the samples after training is shown")), " after"),
            new XElement("figcaption", "The same noise before and after, by fixed seeds: the first samples of each class, not chosen."));
    }

    private static object[] Record(string id, TrialSnapshot trial, string path, IReadOnlyList<ManifestFile> files) =>
    [
        new XElement("h2", "Record"),
        new XElement("ul",
            new XElement("li", WebPage.Link(string.Create(CultureInfo.InvariantCulture, $"{WebPage.AddressOf(id)}/events?trial={trial.Index}"), "Events of this trial")),
            new XElement("li", WebPage.Link(string.Create(CultureInfo.InvariantCulture, $"{WebPage.AddressOf(id)}/audit?skip={trial.Index}"), "Audit"), trial.LedgerSha256 is { } ledger ? new object[] { ": ledger ", new XElement("code", ledger) } : null),
            trial.ParametersSha256 is { } parameters ? new XElement("li", "Parameters after the last step: ", new XElement("code", parameters)) : null,
            trial.Step > 0 ? new XElement("li", "Its last step once more: ", new XElement("code", string.Create(CultureInfo.InvariantCulture, $"adpm replay {id}/{trial.Index}@{trial.Step}"))) : null),
        files.Count == 0 ? "" : new XElement("details", new XElement("summary", Words.Count(files.Count, "file")),
            WebPage.Table("Files", ["file", "size", "SHA-256"], files.Select(file => new object?[] { WebPage.Link($"{path}/files/{file.Sha256}", file.Path), Words.Size(file.Length), new XElement("code", file.Sha256[..Math.Min(16, file.Sha256.Length)]) }))),
        trial.Metrics.Count == 0 ? "" : new XElement("details", new XElement("summary", "All metrics"),
            WebPage.Table("Metrics", ["metric", "newest"], trial.Metrics.OrderBy(metric => metric.Key, StringComparer.Ordinal).Select(metric => new object?[] { metric.Key, Words.Number(metric.Value) }))),
    ];

    private static IReadOnlyList<(double X, double Y)> Points(List<TrialStep> steps, string name) => Chart.Thin([.. steps.Where(step => step.Metrics.ContainsKey(name)).Select(step => ((double)step.Step, step.Metrics[name]))], MostPoints);
}
