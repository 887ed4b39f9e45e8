using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Reporting;

/// <summary>An experiment, its verdict and what its ledger says.</summary>
internal sealed record ReportedExperiment(RecordedExperiment Recorded, IReadOnlyList<TrialAudit> Audits, Verdict Verdict);

/// <summary>The report as one page that needs nothing beside it: no network, pictures and charts inside.</summary>
internal static class ReportPage
{
    /// <summary>All pictures together; the page stays small enough to be mailed.</summary>
    private const int MostPictureBytes = 6_000_000;

    /// <summary>More lines than this nobody tells apart.</summary>
    private const int MostLines = 100, MostPoints = 200, MostRows = 2000, MostPictures = 12;

    /// <param name="experiments">One, or several to compare.</param>
    /// <param name="written">When.</param>
    public static string Of(IReadOnlyList<ReportedExperiment> experiments, DateTimeOffset written)
    {
        var title = experiments.Count == 1 ? experiments[0].Recorded.Report.Experiment.Name : $"{experiments.Count} experiments";
        var room = MostPictureBytes;
        var page = new XElement("html", new XAttribute("lang", "en"),
            new XElement("head",
                new XElement("meta", new XAttribute("charset", "utf-8")),
                new XElement("meta", new XAttribute("name", "viewport"), new XAttribute("content", "width=device-width, initial-scale=1")),
                new XElement("title", $"{title} – AdjointDpm report"),
                new XElement("style", Style)),
            new XElement("body",
                new XElement("main",
                    experiments.Count > 1 ? Comparison(experiments) : null,
                    experiments.Select((experiment, i) => experiments.Count == 1
                        ? (object)Sections(experiment, "", ref room)
                        : new XElement("details", i == 0 ? new XAttribute("open", "open") : null, new XElement("summary", experiment.Recorded.Id), Sections(experiment, $"{i}-", ref room)))),
                new XElement("footer", $"Written {written.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC by adpm report. The numbers are in the JSON file beside it."),
                new XElement("script", Script)));
        return Html.Text(page);
    }

    private static object[] Sections(ReportedExperiment experiment, string prefix, ref int room) =>
    [
        Head(experiment),
        Section("Before and after", Pictures(experiment.Recorded, prefix, ref room)),
        Section("Training and held-out", Curves(experiment.Recorded)),
        AttackSection.Of(experiment.Recorded) is { Length: > 0 } attack ? (object)Section("The attack", attack) : "",
        Section("Is the gradient right?", Proof(experiment.Recorded)),
        Section("Memory and time", Cost(experiment.Recorded)),
        Section("Trials", Trials(experiment.Recorded)),
        Section("The same run again", Reproduction(experiment)),
        Section("Limitations", new XElement("ul", Limitations(experiment).Select(text => new XElement("li", text)))),
    ];

    private static object[] Head(ReportedExperiment experiment)
    {
        var (report, verdict) = (experiment.Recorded.Report, experiment.Verdict);
        var good = verdict.State == RunState.Succeeded && verdict.Proven == verdict.Checked && verdict.Holds == verdict.Audited;
        return
        [
            new XElement("h1", report.Experiment.Name.Length > 0 ? report.Experiment.Name : verdict.Id),
            new XElement("p", new XAttribute("class", "meta"), $"{verdict.Id} · {Words.State(verdict.State)} · {Words.Count(verdict.Trials, "trial")}"
                + (report.Experiment.EndedAt is { } end ? $" · {Words.Span(end - report.Experiment.SubmittedAt)} · {end.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC" : "")),
            new XElement("div", new XAttribute("class", good ? "verdict good" : "verdict bad"), verdict.Sentences.Select((sentence, i) => new XElement("p", i == 0 ? new XElement("strong", sentence) : sentence))),
        ];
    }

    private static XElement Section(string title, params object?[] content) => new("section", new XElement("h2", title), content);

    private static object[] Pictures(RecordedExperiment experiment, string prefix, ref int room)
    {
        var content = new List<object>();
        var (shown, without, left) = (0, 0, 0);
        foreach (var trial in Ranked(experiment))
        {
            if (experiment.Bytes(trial.Index, "before.png") is not { } before || experiment.Bytes(trial.Index, "after.png") is not { } after)
            {
                without++;
                continue;
            }
            if (shown == MostPictures || before.Length + after.Length > room)
            {
                left++;
                continue;
            }
            room -= before.Length + after.Length;
            var id = $"cut-{prefix}{trial.Index}";
            content.Add(new XElement("figure",
                new XElement("figcaption", $"Trial {trial.Index}{(trial.Index == experiment.Best?.Index ? ", the best" : "")}: {Parameters(trial)}"),
                new XElement("div", new XAttribute("class", "pair"), Picture("Before training", before), Picture("After training", after)),
                new XElement("label", new XAttribute("class", "slide"), new XAttribute("hidden", "hidden"), "before ", new XElement("input", new XAttribute("type", "range"), new XAttribute("min", "0"), new XAttribute("max", "100"), new XAttribute("value", "50"), new XAttribute("id", id), new XAttribute("aria-label", "How much of the picture is after training")), " after")));
            shown++;
        }
        if (shown == 0)
            return [new XElement("p", "There are no pictures: no trial that succeeded has before.png and after.png in its folder.")];
        content.Insert(0, new XElement("p", $"Equal noise before and after, with fixed seeds: the first samples of each class, not chosen.{(left > 0 ? $" {Words.Count(left, "further trial")} that succeeded {(left == 1 ? "is" : "are")} left out to keep the page small." : "")}{(without > 0 ? $" {Words.Count(without, "trial")} left no pictures." : "")}"));
        return [.. content];
    }

    private static XElement Picture(string title, byte[] png) => new("img", new XAttribute("alt", title), new XAttribute("title", title), new XAttribute("src", "data:image/png;base64," + Convert.ToBase64String(png)));

    private static object[] Curves(RecordedExperiment experiment)
    {
        var trials = Ranked(experiment).Where(trial => trial.LossHistory.Count > 0).Take(MostLines).ToList();
        if (trials.Count == 0)
            return [new XElement("p", "No trial took a step.")];
        var lines = trials.Select(trial => new ChartLine($"Trial {trial.Index}: {Parameters(trial)}", Thinned(trial.LossHistory), trial.Index == (experiment.Best?.Index ?? trials[0].Index))).ToList();
        var dots = trials.SelectMany(trial => new[] { ("loss.before", 0), ("loss.after", trial.Step) }.Where(dot => trial.Metrics.ContainsKey("heldOut." + dot.Item1))
            .Select(dot => new ChartDot($"Trial {trial.Index}, held-out {dot.Item1}", dot.Item2, trial.Metrics["heldOut." + dot.Item1], trial.Index == experiment.Best?.Index))).ToList();
        var content = new List<object>
        {
            Chart.Lines("Training loss by step, and held-out loss before and after", "step", lines, dots),
            new XElement("p", new XAttribute("class", "note"), $"Lines: training loss. Dots: loss on held-out noise before and after. The best trial is coloured.{(experiment.Report.Trials.Count(trial => trial.LossHistory.Count > 0) > trials.Count ? $" The first {trials.Count} trials by objective are drawn." : "")}"),
        };
        if (experiment.Best is { } best && Verdict.Changes(best).ToList() is { Count: > 0 } changes)
            content.Add(Html.Table([$"Trial {best.Index}", "before", "after", "change"], changes.Select(change => new object[] { change.Name, Words.Number(change.Before), Words.Number(change.After), Verdict.Percent(change.Before, change.After).Trim(' ', '(', ')') + (change.IsWorse(experiment) ? " worse" : "") })));
        return [.. content];
    }

    private static object[] Proof(RecordedExperiment experiment)
    {
        var judged = experiment.Report.Trials.Where(trial => trial.Proof is not null).ToList();
        if (judged.Count == 0)
            return [new XElement("p", "Not recorded: the spec says gradient.check.mode: off. 'adpm check FILE' proves it on a probe batch.")];
        var trial = judged.FirstOrDefault(trial => trial.Index == experiment.Best?.Index) ?? judged[0];
        var content = new List<object>
        {
            new XElement("p", "Every trial began with this proof, in float64 on its own model and sampler: the configured gradient beside the one that automatic differentiation through the whole sampler gives, and that one beside finite differences."),
            Html.Table(["trials", "method", "verdict", "cosine", "norm ratio", "relative error"], judged.GroupBy(trial => trial.Proof!).Take(20).Select(group => new object[]
            {
                Some(group.Select(trial => trial.Index)), group.Key.Method, group.Key.Passed ? group.Key.IsEstimate ? "measured" : "PASS" : "FAIL: " + group.Key.Finding,
                group.Key.Cosine.ToString("f8", CultureInfo.InvariantCulture), group.Key.NormRatio.ToString("g6", CultureInfo.InvariantCulture), Words.Error(group.Key.RelativeError),
            })),
        };
        if (experiment.ProofOf(trial.Index) is { } proof)
        {
            content.Add(new XElement("details", new XElement("summary", $"Trial {trial.Index} by parameter group and by step of the trajectory"),
                Html.Table(["∂L/∂", "cosine", "norm ratio", "relative error"], proof.Groups.Concat(proof.States).Select(row => new object[] { row.Rho is { } rho ? $"{row.Name}, ρ = {Words.Number(rho)}" : row.Name, row.Cosine.ToString("f8", CultureInfo.InvariantCulture), row.NormRatio.ToString("g6", CultureInfo.InvariantCulture), Words.Error(row.RelativeError) })),
                Html.Table(["along a direction of", "finite difference", "±", "unrolled", "configured"], proof.Differences.Select(row => new object[] { row.Name, Nine(row.FiniteDifference), Words.Error(row.Uncertainty), Nine(row.Unrolled), Nine(row.Configured) }))));
        }
        return [.. content];

        static string Nine(double value) => value.ToString("g9", CultureInfo.InvariantCulture);
    }

    private static object[] Cost(RecordedExperiment experiment) =>
    [
        Html.Table(["trial", "wall time", "device time", "samples", "evaluations forward", "backward", "VJPs", "live tensors, most", "bytes, most", "shards reissued"], Ranked(experiment).Take(20).Select(trial => new object[]
        {
            trial.Index, trial.Seconds is { } seconds ? Words.Span(TimeSpan.FromSeconds(seconds)) : "", CostOf(trial, "workerSeconds") is { } busy ? Words.Span(TimeSpan.FromSeconds(busy)) : "",
            Whole(trial, "samples"), Whole(trial, "forwardNfe"), Whole(trial, "backwardNfe"), Whole(trial, "vjps"), Whole(trial, "peakLiveTensors"), CostOf(trial, "peakLiveBytes") is { } bytes ? Words.Size((long)bytes) : "", trial.ShardsReissued,
        })),
        new XElement("p", new XAttribute("class", "note"), $"{(experiment.Report.Trials.Count > 20 ? "The first 20 trials by objective. " : "")}Bytes are those in use during a shard above those before, where the C library tells; 'adpm plan FILE' predicts them part by part, measured on the model itself."),
    ];

    private static object[] Trials(RecordedExperiment experiment)
    {
        var (trials, metric) = (Ranked(experiment).ToList(), experiment.Report.Objective.Metric);
        var paths = trials.SelectMany(trial => trial.Parameters.Keys).Distinct().ToList();
        var shown = trials.Take(MostRows).ToList();
        var table = Html.Table(["trial", "state", .. paths.Select(path => Words.Short(path, paths)), metric, "loss, first to last", "steps", "SHA-256"], shown.Select(trial => (object[])
        [
            trial.Index + (trial.Index == experiment.Best?.Index ? " ★" : ""), Words.State(trial.State) + (trial.Reason is { Length: > 0 } reason ? ": " + reason : ""), .. paths.Select(path => trial.Parameters.GetValueOrDefault(path, "")),
            experiment.ObjectiveOf(trial) is { } value ? Words.Number(value) : "", trial.LossHistory.Count > 0 ? $"{Words.Number(trial.LossHistory[0])} → {Words.Number(trial.LossHistory[^1])}" : "", $"{trial.Step}/{trial.Steps}", Hash(trial.ParametersSha256),
        ]));
        var content = new List<object> { shown.Count > 12 ? new XElement("details", new XElement("summary", $"{Words.Count(trials.Count, "trial")}, best first"), table) : table };
        if (trials.Count > shown.Count)
            content.Add(new XElement("p", new XAttribute("class", "note"), $"{trials.Count - shown.Count} further trials are in report.json."));
        content.AddRange(Fronts(experiment));
        var valued = trials.Where(trial => experiment.ObjectiveOf(trial) is not null && paths.All(trial.Parameters.ContainsKey)).ToList();
        if (valued.Count < 2 || paths.Count == 0)
            return [.. content];

        var axes = paths.Select(path => (Name: Words.Short(path, paths), Words: WordsOf(valued, path))).ToList();
        content.Add(new XElement("h3", "All parameters together"));
        content.Add(Chart.Parallel($"Parallel coordinates of {valued.Count} trials", [.. axes, (metric, null)], [.. valued.Take(MostRows).Select(trial => (
            $"Trial {trial.Index}: {Parameters(trial)}, {metric} {Words.Number(experiment.ObjectiveOf(trial)!.Value)}",
            paths.Select((path, i) => Place(trial, path, axes[i].Words)).Append(experiment.ObjectiveOf(trial)!.Value).ToArray(), trial.Index == experiment.Best?.Index))]));
        content.Add(new XElement("h3", $"{metric} by parameter"));
        content.Add(new XElement("div", new XAttribute("class", "charts"), paths.Select((path, i) => Chart.Dots($"{metric} by {path}", path, [.. valued.Take(MostRows).Select(trial => new ChartDot($"Trial {trial.Index}: {Parameters(trial)}", Place(trial, path, axes[i].Words), experiment.ObjectiveOf(trial)!.Value, trial.Index == experiment.Best?.Index))], axes[i].Words))));
        content.Add(new XElement("p", new XAttribute("class", "note"), "Each dot is a trial; the other parameters differ as well, so this is a marginal view, not an effect."));
        return [.. content];
    }

    /// <summary>With several objectives: every other one by the first, and the trials that no other is better than in all.</summary>
    private static IEnumerable<XElement> Fronts(RecordedExperiment experiment)
    {
        var (objectives, front) = (experiment.Objectives, (experiment.Report.Front ?? []).ToHashSet());
        var trials = experiment.Report.Trials.Where(trial => trial.State == RunState.Succeeded && objectives.All(metric => double.IsFinite(trial.Metrics.GetValueOrDefault(metric, double.NaN)))).ToList();
        if (objectives.Count < 2 || trials.Count == 0)
            yield break;
        yield return new XElement("h3", "Pareto front");
        // Those of the front are never left out.
        var shown = trials.OrderByDescending(trial => front.Contains(trial.Index)).Take(MostRows).ToList();
        yield return new XElement("div", new XAttribute("class", "charts"), objectives.Skip(1).Select(other => Chart.Front(objectives[0], other,
            [.. shown.Select(trial => new ChartDot($"Trial {trial.Index}: {Parameters(trial)}; {string.Join(", ", objectives.Select(metric => $"{metric} {Words.Number(trial.Metrics[metric])}"))}", trial.Metrics[objectives[0]], trial.Metrics[other], front.Contains(trial.Index)))],
            connected: objectives.Count == 2)));
        yield return Html.Table(["trial of the front", .. objectives], shown.Where(trial => front.Contains(trial.Index)).OrderBy(trial => trial.Metrics[objectives[0]]).Take(20)
            .Select(trial => (object?[])[$"{trial.Index}: {Parameters(trial)}", .. objectives.Select(metric => Words.Number(trial.Metrics[metric]))]));
        yield return new XElement("p", new XAttribute("class", "note"), $"Coloured: the {Words.Count(front.Count, "trial")} that no other trial is better than in all objectives. Which of them to take is not for a number to say.");
    }

    private static object[] Reproduction(ReportedExperiment experiment)
    {
        var report = experiment.Recorded.Report;
        var hashes = new List<object[]> { new object[] { "spec", report.SpecSha256 }, new object[] { "model before", report.ModelSha256 ?? "not recorded" } };
        foreach (var trial in Ranked(experiment.Recorded).Where(trial => trial.ParametersSha256 is not null).Take(20))
        {
            hashes.Add([$"trial {trial.Index}, parameters", trial.ParametersSha256!]);
            if (trial.LedgerSha256 is { } ledger)
                hashes.Add([$"trial {trial.Index}, ledger", ledger]);
        }
        return
        [
            new XElement("p", "Save this as experiment.yaml and run it. On a device of the same kind every trial ends in the same SHA-256, on any number of silos:"),
            new XElement("pre", new XElement("code", "adpm run experiment.yaml --silos 2")),
            new XElement("details", new XElement("summary", "experiment.yaml"), new XElement("pre", new XElement("code", ExperimentYaml.Write(report.Experiment.Name, report.Spec.ToJsonString(ExperimentSpecJson.Options))))),
            new XElement("p", "A single step of it: ", new XElement("code", $"adpm replay {experiment.Verdict.Id}/{experiment.Verdict.BestTrial ?? 0}@1"), ". Its ledger: ", new XElement("code", $"adpm audit {experiment.Verdict.Id}"), "."),
            Html.Table(["what", "SHA-256"], hashes),
            Html.Table(["versions, seeds, hardware", ""], report.Versions.Select(pair => new object[] { pair.Key, pair.Value })
                .Concat(report.Seeds.Where(pair => pair.Value is not null).Select(pair => new object[] { $"seed of {pair.Key}", pair.Value!.Value.ToString(CultureInfo.InvariantCulture) }))
                .Concat(report.Resources.Select(pair => new object[] { pair.Key, pair.Value.ToString() }))),
        ];
    }

    private static IEnumerable<string> Limitations(ReportedExperiment experiment)
    {
        var report = experiment.Recorded.Report;
        if (report.Spec["heldOut"]?["samples"] is { } samples)
            yield return $"Held-out figures are means over {samples} samples of fixed noise; their spread is not recorded.{(report.Spec["heldOut"]?["classifier"] is null ? " They are judged by the loss that was trained on, not by a network that took no part." : "")}";
        else
            yield return "No judge was named (heldOut): figures after training are of the losses that were trained on, on noise that training did not see.";
        if (report.Trials.FirstOrDefault(trial => trial.Proof is { Exact: false }) is { } inexact)
            yield return inexact.Proof!.IsEstimate
                ? $"The gradient method '{inexact.Proof.Method}' is an estimate for training and claims no gradient of the sampler; how near it is in one draw stands above."
                : $"The gradient method '{inexact.Proof.Method}' does not give the gradient of the sampler as it is run, but approximates it; the proof above says how well.";
        if (experiment.Verdict.Checked < experiment.Verdict.Trials)
            yield return $"The gradient of {experiment.Verdict.Trials - experiment.Verdict.Checked} trials was not put to the proof.";
        if (experiment.Audits.Count == 0)
            yield return "The ledger was not at hand when this was written, so exactly-once counting was not audited here.";
        else if (experiment.Audits.Count < report.Trials.Count)
            yield return $"The ledgers of {report.Trials.Count - experiment.Audits.Count} trials were not audited here.";
        foreach (var trial in report.Trials.Where(trial => trial.State is RunState.Failed).Take(5))
            yield return $"Trial {trial.Index} failed: {trial.Reason}";
        if (report.Trials.Count(trial => trial.State is RunState.Failed) is > 5 and var failed)
            yield return $"{failed - 5} further trials failed; their reasons are in the table.";
        if (report.Trials.Count > 1)
            yield return $"The best of {report.Trials.Count} trials was chosen by {report.Objective.Metric}, so its value is optimistic; a run with another heldOut.seed measures by how much.";
        yield return "Equal bits are promised for an equal kind of device, dtype and number of threads.";
        yield return "The processor's model is not recorded.";
    }

    private static XElement Comparison(IReadOnlyList<ReportedExperiment> experiments)
    {
        var specs = experiments.Select(experiment => SpecLeaves.Of(experiment.Recorded.Report.Spec).ToDictionary(leaf => leaf.Path, leaf => leaf.Value)).ToList();
        var differing = specs.SelectMany(spec => spec.Keys).Distinct().Where(path => specs.Select(spec => spec.GetValueOrDefault(path, "–")).Distinct().Count() > 1).Order(StringComparer.Ordinal).ToList();
        return new XElement("section",
            new XElement("h1", $"{experiments.Count} experiments compared"),
            Html.Table(["", .. experiments.Select(experiment => experiment.Recorded.Id)],
            [
                Row("state", experiment => Words.State(experiment.Verdict.State)),
                Row("objective", experiment => experiment.Verdict.Objective),
                Row("before", experiment => experiment.Verdict.Before is { } value ? Words.Number(value) : "–"),
                Row("best", experiment => experiment.Verdict.After is { } value ? Words.Number(value) + (experiment.Verdict.Before is { } before ? Verdict.Percent(before, value) : "") : "–"),
                Row("trials succeeded", experiment => $"{experiment.Verdict.Succeeded} of {experiment.Verdict.Trials}"),
                Row("gradient proven", experiment => $"{experiment.Verdict.Proven} of {experiment.Verdict.Checked}"),
                Row("ledger holds", experiment => $"{experiment.Verdict.Holds} of {experiment.Verdict.Audited}"),
                Row("got worse", experiment => string.Join(", ", experiment.Verdict.GotWorse.Select(change => change.Name))),
                Row("parameters of the best", experiment => Hash(experiment.Recorded.Best?.ParametersSha256)),
            ]),
            Overlay(experiments),
            new XElement("h2", "What their specs differ in"),
            differing.Count == 0 ? new XElement("p", "Nothing.") : Html.Table(["", .. experiments.Select(experiment => experiment.Recorded.Id)], differing.Select(path => (object[])[path, .. specs.Select(spec => spec.GetValueOrDefault(path, "–"))])));

        object[] Row(string name, Func<ReportedExperiment, string> value) => [name, .. experiments.Select(value)];
    }

    /// <summary>The best trial of each in one chart, and their samples beside each other.</summary>
    private static object?[] Overlay(IReadOnlyList<ReportedExperiment> experiments)
    {
        var best = experiments.Where(experiment => experiment.Recorded.Best is { LossHistory.Count: > 0 }).Take(MostLines).ToList();
        var after = experiments.Select(experiment => (experiment.Recorded.Id, Bytes: experiment.Recorded.Best is { } trial ? experiment.Recorded.Bytes(trial.Index, "after.png") : null)).Where(picture => picture.Bytes is { Length: < MostPictureBytes / MostPictures }).Take(MostPictures).ToList();
        return
        [
            best.Count < 2 ? null : new object[]
            {
                new XElement("h2", "Training loss of the best trials"),
                Chart.Lines("Training loss of the best trial of each experiment", "step", [.. best.Select((experiment, i) => new ChartLine($"{experiment.Recorded.Id}, trial {experiment.Recorded.Best!.Index}", Thinned(experiment.Recorded.Best!.LossHistory), Best: i == 0))], []),
                new XElement("p", new XAttribute("class", "note"), $"Coloured: {best[0].Recorded.Id}. Losses are comparable where the specs below name the same losses and weights."),
            },
            after.Count < 2 ? null : new object[]
            {
                new XElement("h2", "Samples of the best trials"),
                new XElement("div", new XAttribute("class", "charts"), after.Select(picture => new XElement("figure", new XElement("figcaption", picture.Id), new XElement("div", new XAttribute("class", "pair"), Picture($"After training, {picture.Id}", picture.Bytes!))))),
            },
        ];
    }

    /// <summary>Best first; then those without a value.</summary>
    private static IEnumerable<RecordedTrial> Ranked(RecordedExperiment experiment) =>
        experiment.Report.Trials.OrderBy(trial => experiment.ObjectiveOf(trial) is { } value ? (experiment.Minimizes ? value : -value) : double.PositiveInfinity).ThenBy(trial => trial.Index);

    /// <summary>The distinct values of a parameter when not all are numbers, or there are few of them.</summary>
    private static List<string>? WordsOf(List<RecordedTrial> trials, string path)
    {
        var values = trials.Select(trial => trial.Parameters[path]).Distinct().ToList();
        var numbers = values.All(value => double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out _));
        return !numbers ? [.. values.Order(StringComparer.Ordinal)] : values.Count <= 3 ? [.. values.OrderBy(value => double.Parse(value, CultureInfo.InvariantCulture))] : null;
    }

    private static double Place(RecordedTrial trial, string path, IReadOnlyList<string>? words) =>
        words is null ? double.Parse(trial.Parameters[path], CultureInfo.InvariantCulture) : words.ToList().IndexOf(trial.Parameters[path]);

    private static string Parameters(RecordedTrial trial) => trial.Parameters.Count == 0 ? "as in the spec" : string.Join(", ", trial.Parameters.Select(pair => $"{pair.Key} = {pair.Value}"));

    private static string Some(IEnumerable<int> trials) => trials.ToList() is { Count: > 10 } many ? $"{string.Join(", ", many.Take(10))}, … ({many.Count})" : string.Join(", ", trials);

    private static string Hash(string? sha) => sha is { Length: > 12 } ? sha[..12] + "…" : sha ?? "";

    private static double? CostOf(RecordedTrial trial, string name) => trial.Cost.TryGetValue(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    private static string Whole(RecordedTrial trial, string name) => CostOf(trial, name)?.ToString("n0", CultureInfo.InvariantCulture) ?? "";

    private static IReadOnlyList<(double X, double Y)> Thinned(IReadOnlyList<double> losses) => Chart.Thin([.. losses.Select((loss, i) => (i + 1.0, loss))], MostPoints);

    // Neither holds a character that markup would escape.
    private const string Style = Html.Style + """

        main, footer { max-width: 60rem; margin: 0 auto; padding: 1rem; }
        h1 { margin: 1rem 0 0; font-size: 1.8rem; overflow-wrap: anywhere; } h2 { margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); font-size: 1.25rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
        .verdict { border-left: .35rem solid var(--good); background: var(--panel); padding: .4rem 1rem; margin: 1rem 0; } .verdict.bad { border-color: var(--bad); } .verdict p { margin: .4rem 0; overflow-wrap: anywhere; }
        figure { margin: 1rem 0; } figcaption { font-size: .9rem; margin-bottom: .4rem; } .pair { display: flex; flex-wrap: wrap; gap: .6rem; } .pair img { flex: 1 1 18rem; min-width: 0; max-width: 100%; height: auto; image-rendering: pixelated; border: 1px solid var(--rule); }
        .pair.over { display: grid; } .pair.over img { grid-area: 1 / 1; width: 100%; } .slide { display: flex; gap: .6rem; align-items: center; font-size: .9rem; } .slide[hidden] { display: none; } .slide input { flex: 1; }
        @media print { body { font-size: 11px; } section { break-inside: avoid-page; } .slide { display: none !important; } .pair.over { display: flex; } .pair.over img { clip-path: none !important; } }
        """;

    // Without it both pictures stand beside each other.
    private const string Script = """
        document.querySelectorAll('.slide').forEach(function (slide) {
          var pair = slide.previousElementSibling, input = slide.querySelector('input'), after = pair.lastElementChild;
          function cut() { after.style.clipPath = 'inset(0 0 0 ' + (100 - input.value) + '%)'; }
          pair.classList.add('over'); slide.hidden = false; input.addEventListener('input', cut); cut();
        });
        """;
}
