using System.Globalization;

namespace AdjointDpm.Bench;

/// <summary>The recipes of <c>adpm init</c> as they stand in examples/, run by the client on this machine: the tables and pictures of docs/applications.md, and every figure beside its bar.</summary>
internal sealed class Applications(string output, string pictures)
{
    private readonly Bars _bars = new();

    /// <param name="output">Folder of the runs; what has run there already is not run again.</param>
    /// <param name="pictures">Folder that the pictures before and after are copied to.</param>
    /// <param name="only">Sections to make; empty for all.</param>
    public static void Run(string output, string pictures, string[] only)
    {
        Directory.CreateDirectory(output);
        Directory.CreateDirectory(pictures);
        var self = new Applications(output, pictures);
        var sections = new (string Name, Action Write)[]
        {
            ("guide", self.Guide),
            ("stylize", self.Stylize),
            ("painting", () => PaintingStyle.Write(output, pictures)),
            ("invert", self.Invert),
            ("effects", self.Effects),
            ("audit", () => AuditTables.Write(output, pictures, self._bars)),
            ("audit-gradients", () => AuditGradients.Run(120, 0.2, [160, 320])),
            ("victims", () => AuditTables.WriteOthers(output)),
            ("guided-sample", self.Guided),
            ("reward", () => RewardComparison.Write(output)),
        };
        if (only.FirstOrDefault(name => sections.All(section => section.Name != name)) is { } unknown)
            throw new ArgumentException($"There is no section '{unknown}'. There are {string.Join(", ", sections.Select(section => section.Name))}.");
        foreach (var (name, write) in sections.Where(section => only.Length == 0 || only.Contains(section.Name)))
        {
            Console.WriteLine($"\n## {name}\n");
            write();
        }

        self._bars.Write();
    }

    private void Guide()
    {
        var trial = ClientRun.Of("examples/guide.yaml", output, "training.shards=10", "training.samplesPerShard=20").Trial;
        Console.WriteLine("| judged by | before | after |\n|---|---|---|");
        Console.WriteLine($"| the classifier that the noise was fitted to | {Cells.Share(trial["classified.before"])} | {Cells.Share(trial["classified.after"])} |");
        Console.WriteLine($"| the classifier that took no part | {Cells.Share(trial["heldOut.accuracy.before"])} | {Cells.Share(trial["heldOut.accuracy.after"])} |");
        Console.WriteLine($"\n−log p(3): {Cells.Number(trial["loss.before"], "f3")} → {Cells.Number(trial["loss.after"], "f3")}; ‖x_T‖ {Cells.Number(trial["noise.norm.before"], "f3")} → {Cells.Number(trial["noise.norm.after"], "f3")}, moved by {Cells.Number(trial["noise.l2.after"], "f1")}.");
        Picture(trial, "guide");
        _bars.Add("guide", "200 noises of the unconditional model: the wanted class by the guiding classifier ≥ 95 %", Cells.Share(trial["classified.after"]), trial["classified.after"] >= 0.95);
        _bars.Add("guide", "and by one that took no part ≥ 85 %", Cells.Share(trial["heldOut.accuracy.after"]), trial["heldOut.accuracy.after"] >= 0.85);
    }

    private void Stylize()
    {
        var run = ClientRun.Of("examples/stylize-digits.yaml", output);
        Console.WriteLine("| trial | style loss before → after | recognised before → after |\n|---|---|---|");
        foreach (var trial in run.Trials)
            Console.WriteLine($"| {trial.Index} | {Cells.Number(trial["gramStyle.before"], "f3")} → {Cells.Number(trial["gramStyle.after"], "f3")} | {Cells.Share(trial["heldOut.accuracy.before"])} → {Cells.Share(trial["heldOut.accuracy.after"])} |");
        var best = run.Trials.MinBy(trial => trial["heldOut.loss.after"])!;
        var (fall, lost) = (1 - (best["gramStyle.after"] / best["gramStyle.before"]), 100 * (best["heldOut.accuracy.before"] - best["heldOut.accuracy.after"]));
        _bars.Add("stylize", "style loss down ≥ 60 %", Cells.Share(fall), fall >= 0.6);
        _bars.Add("stylize", "accuracy down ≤ 5 points", $"{Cells.Number(lost, "f0")} points", lost <= 5);
    }

    private void Invert()
    {
        var trial = ClientRun.Of("examples/invert.yaml", output).Trial;
        Console.WriteLine("| mean squared distance to the target | before | after |\n|---|---|---|");
        Console.WriteLine($"| in [-1, 1]² | {Cells.Number(trial["loss.before"], "f4")} | {Cells.Number(trial["loss.after"], "f4")} |");
        Picture(trial, "invert");
    }

    private void Effects()
    {
        var least = "";
        Console.WriteLine("| effect | distance to the pair's picture, before → after | measure | the pair | mean of 50 others | went half of the pair's way | still a 4 to a classifier that took no part |\n|---|---|---|---|---|---|---|");
        foreach (var effect in new[] { "thick", "slant", "inverted" })
        {
            var reference = "examples/data/thick-four.png";
            if (effect != "thick")
                Train.InversionTarget.Write(reference = Path.Combine(output, effect + "-four.png"), "examples/models/mnist-dpm", 4, 5, effect);
            var trial = ClientRun.Of("examples/invert-effect.yaml", output, $"losses[0].reference={Path.GetFullPath(reference)}").Trial;
            var isRelative = effect != "slant";
            var shown = EffectTransfer.Measure(effect, "examples/models/mnist-dpm", trial.File("model"), reference, 4, 5, 50, effect == "thick" ? Path.Combine(pictures, "invert-effect-others.png") : null);
            var share = shown.Shown(isRelative) / (double)shown.Before.Length;
            Console.WriteLine($"| {effect} | {Cells.Number(trial["loss.before"], "f4")} → {Cells.Number(trial["loss.after"], "f4")} | {EffectTransfer.Measures[effect].Name} | {Cells.Number(shown.Pair.Plain, "f3")} → {Cells.Number(shown.Pair.Effect, "f3")} | {Cells.Number(shown.Before.Average(), "f3")} → {Cells.Number(shown.After.Average(), "f3")} | {shown.Shown(isRelative)} of {shown.Before.Length} | {Cells.Share(shown.Recognised)} |");
            if (effect != "thick")
                continue;
            Picture(trial, "invert-effect");
            least = string.Create(CultureInfo.InvariantCulture, $"\nOf thick strokes the least of the 50 grew by {shown.Before.Zip(shown.After, (before, after) => after / before).Min():f2}, the pair by {shown.Pair.Effect / shown.Pair.Plain:f2}.");
            _bars.Add("invert", "an effect from one pair shows on 50 other noises ≥ 90 %", $"{Cells.Share(share)} (thick strokes; half of the pair's way in log ink)", share >= 0.9);
        }

        Console.WriteLine(least);
    }

    private void Guided()
    {
        var with = ClientRun.Of("examples/guided-sample.yaml", output).Trial;
        var without = ClientRun.Of("examples/guided-sample.yaml", output, "sample.lookAhead.strength=0.2", "losses[1].weight=0").Trial;
        Console.WriteLine("| | sampler alone | guided, style and cross-entropy | guided by style alone, strength 0.2 |\n|---|---|---|---|");
        Console.WriteLine($"| style loss | {Cells.Number(with["gramStyle.before"], "f3")} | {Cells.Number(with["gramStyle.after"], "f3")} | {Cells.Number(without["gramStyle.after"], "f3")} |");
        Console.WriteLine($"| recognised by a classifier that took no part | {Cells.Share(with["heldOut.accuracy.before"])} | {Cells.Share(with["heldOut.accuracy.after"])} | {Cells.Share(without["heldOut.accuracy.after"])} |");
        Picture(with, "guided-sample");
    }

    private void Picture(TrialRun trial, string name) => File.Copy(trial.File("before-after.png"), Path.Combine(pictures, name + ".png"), overwrite: true);
}
