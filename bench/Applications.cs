using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using AdjointDpm.Scoring;

namespace AdjointDpm.Bench;

/// <summary>The recipes of <c>adpm init</c> as they stand in examples/, run by the client on this machine: the tables and pictures of docs/applications.md.</summary>
internal static class Applications
{
    /// <param name="output">Folder of the runs; what has run there already is not run again.</param>
    /// <param name="pictures">Folder that the pictures before and after are copied to.</param>
    /// <param name="only">Recipes to run; empty for all.</param>
    public static void Run(string output, string pictures, string[] only)
    {
        foreach (var (name, run) in new (string, Action)[]
        {
            ("guide", () => Table("guide", Guide, "training.shards=10", "training.samplesPerShard=20")),
            ("stylize-digits", () => Table("stylize-digits", Stylize)),
            ("invert", () => Table("invert", Invert)),
            ("invert-effect", () => Table("invert-effect", Effect)),
            ("audit", () => Table("audit", Audit, "training.shards=10", "training.samplesPerShard=24")),
            ("guided-sample", () => Table("guided-sample", Guided)),
            ("reward", Reward),
        })
        {
            if (only.Length == 0 || only.Contains(name))
                run();
        }

        void Table(string recipe, Action<JsonNode> write, params string[] sets)
        {
            Console.WriteLine($"\n## {recipe}\n");
            var report = Report(recipe, output, sets);
            write(report);
            Picture(recipe, output, report["trials"]!.AsArray());
        }

        void Reward()
        {
            Console.WriteLine("\n## reward\n\n| gradient.method | cross-entropy before → after | recognised before → after | best step | evaluations forward | backward | cosine to the unrolled gradient | peak live tensors | worker seconds |\n|---|---|---|---|---|---|---|---|---|");
            foreach (var method in (string[][])[["discrete"], ["truncated", "gradient.last=2"], ["low-variance"], ["alignprop"], ["refl"], ["adjoint-matching"]])
            {
                var trial = Report("reward", Path.Combine(output, $"reward-{method[0]}"), [$"gradient.method={method[0]}", .. method[1..]])["trials"]![0]!;
                var (m, cost) = (trial["metrics"]!, trial["cost"]!);
                Console.WriteLine($"| {string.Join(", ", method)} | {Number(m, "loss.before", "f4")} → {Number(m, "loss.after", "f4")} | {Share(m, "heldOut.accuracy.before")} → {Share(m, "heldOut.accuracy.after")} | {Number(m, "heldOut.bestStep", "f0")} | {cost["forwardNfe"]} | {cost["backwardNfe"]} | {Number(trial["proof"]!, "cosine", "f4")} | {cost["peakLiveTensors"]} | {Number(cost, "workerSeconds", "f0")} |");
            }
        }

        static void Guide(JsonNode report)
        {
            var m = report["trials"]![0]!["metrics"]!;
            Console.WriteLine("| judged by | before | after |\n|---|---|---|");
            Console.WriteLine($"| the classifier that the noise was fitted to | {Share(m, "classified.before")} | {Share(m, "classified.after")} |");
            Console.WriteLine($"| the classifier that took no part | {Share(m, "heldOut.accuracy.before")} | {Share(m, "heldOut.accuracy.after")} |");
            Console.WriteLine($"\n−log p(3): {Number(m, "loss.before", "f3")} → {Number(m, "loss.after", "f3")}; ‖x_T‖ {Number(m, "noise.norm.before", "f3")} → {Number(m, "noise.norm.after", "f3")}, moved by {Number(m, "noise.l2.after", "f1")}.");
        }

        static void Stylize(JsonNode report)
        {
            Console.WriteLine("| trial | style loss before → after | recognised before → after |\n|---|---|---|");
            foreach (var trial in report["trials"]!.AsArray())
            {
                var m = trial!["metrics"]!;
                Console.WriteLine($"| {trial["index"]} | {Number(m, "gramStyle.before", "f3")} → {Number(m, "gramStyle.after", "f3")} | {Share(m, "heldOut.accuracy.before")} → {Share(m, "heldOut.accuracy.after")} |");
            }
        }

        static void Invert(JsonNode report)
        {
            var m = report["trials"]![0]!["metrics"]!;
            Console.WriteLine("| mean squared distance to the target | before | after |\n|---|---|---|");
            Console.WriteLine($"| in [-1, 1]² | {Number(m, "loss.before", "f4")} | {Number(m, "loss.after", "f4")} |");
        }

        void Effect(JsonNode report)
        {
            Invert(report);
            var trained = Directory.GetDirectories(output, "model", SearchOption.AllDirectories).Last(path => path.Contains("invert-effect-", StringComparison.Ordinal));
            var result = EffectTransfer.Measure("thick", "examples/models/mnist-dpm", trained, "examples/data/thick-four.png", 4, 5, 50, Path.Combine(pictures, "invert-effect-others.png"));
            Console.WriteLine("\n| ink, the share of white | without | with the embedding |\n|---|---|---|");
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| the pair | {result.Pair.Plain:f3} | {result.Pair.Effect:f3} (its target) |\n| mean of 50 other noises | {result.Before.Average():f3} | {result.After.Average():f3} |"));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\n{result.Shown(relative: true)} of 50 went at least half of the pair's way in log ink; the least grew by {result.Before.Zip(result.After, (b, a) => a / b).Min():f2}, the pair by {result.Pair.Effect / result.Pair.Plain:f2}. Still a 4 to a classifier that took no part: {result.Recognised:p0}."));
        }

        static void Audit(JsonNode report)
        {
            Console.WriteLine("| radius | success rate | 95 % interval | random signs | still recognised, of the successes | recognised of all, before → after | seconds a success |\n|---|---|---|---|---|---|---|");
            foreach (var trial in report["trials"]!.AsArray())
            {
                var m = trial!["metrics"]!;
                var (spec, training) = (report["spec"]!, report["spec"]!["training"]!);
                var noises = (int)training["shards"]! * (int)training["samplesPerShard"]! / (int)(spec["train"]!["noise"]!["box"]!["restarts"] ?? 1)!;
                var eligible = (int)Math.Round((double)m["audit.eligible.after"]! * noises);
                var success = (int)Math.Round((double)m["audit.success.after"]! * noises);
                var (low, high) = WilsonInterval.Of(success, eligible);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {trial["parameters"]!["train.noise.box.radius"]} | {Share(m, "audit.rate.after")} ({success} of {eligible}) | {low:p0} – {high:p0} | {Share(m, "audit.randomRate.after")} | {(double)m["audit.recognised.after"]! / Math.Max(1e-9, (double)m["audit.success.after"]!):p0} | {Share(m, "heldOut.accuracy.before")} → {Share(m, "heldOut.accuracy.after")} | {(double)trial["seconds"]! / Math.Max(1, success):f1} |"));
            }
        }

        static void Guided(JsonNode report)
        {
            var m = report["trials"]![0]!["metrics"]!;
            Console.WriteLine("| | sampler alone | with guidance |\n|---|---|---|");
            Console.WriteLine($"| style loss | {Number(m, "gramStyle.before", "f3")} | {Number(m, "gramStyle.after", "f3")} |");
            Console.WriteLine($"| recognised by a classifier that took no part | {Share(m, "heldOut.accuracy.before")} | {Share(m, "heldOut.accuracy.after")} |");
        }

        void Picture(string recipe, string folder, JsonArray trials)
        {
            foreach (var trial in trials)
            {
                var found = Directory.GetFiles(folder, "before-after.png", SearchOption.AllDirectories).Where(path => path.Contains($"{Path.DirectorySeparatorChar}{recipe}-", StringComparison.Ordinal)).Order(StringComparer.Ordinal).ToArray();
                if (found.Length <= (int)trial!["index"]!)
                    continue;
                var name = trials.Count == 1 ? $"{recipe}.png" : $"{recipe}-{trial["index"]}.png";
                Directory.CreateDirectory(pictures);
                if (recipe != "stylize-digits")
                    File.Copy(found[(int)trial["index"]!], Path.Combine(pictures, name), overwrite: true);
            }
        }
    }

    private static JsonNode Report(string recipe, string output, string[] sets)
    {
        var start = new ProcessStartInfo("dotnet", ["run", "--project", "src/Client", "-c", "Release", "--no-build", "--", "run", $"examples/{recipe}.yaml", "--silos", "2", "-o", output, "--json", .. sets.SelectMany(set => new[] { "--set", set })]) { RedirectStandardOutput = true };
        using var client = Process.Start(start)!;
        var text = client.StandardOutput.ReadToEnd();
        client.WaitForExit();
        if (client.ExitCode != 0)
            throw new InvalidOperationException($"{recipe} ended with {client.ExitCode}: {text}");
        var reports = Directory.GetFiles(Path.Combine(output, "experiments"), "report.json", SearchOption.AllDirectories).Where(path => Path.GetFileName(Path.GetDirectoryName(path)!).StartsWith(recipe + "-", StringComparison.Ordinal)).ToArray();
        return JsonNode.Parse(File.ReadAllText(reports.MaxBy(File.GetLastWriteTimeUtc)!))!;
    }

    private static string Number(JsonNode node, string key, string format) => node[key] is { } value ? ((double)value).ToString(format, CultureInfo.InvariantCulture) : "–";

    private static string Share(JsonNode node, string key) => node[key] is { } value ? ((double)value).ToString("p0", CultureInfo.InvariantCulture) : "–";
}
