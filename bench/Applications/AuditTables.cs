using System.Globalization;

namespace AdjointDpm.Bench;

/// <summary>What the recipe <c>audit</c> reaches: by radius on the digits' own classifier, and on networks that others trained.</summary>
internal static class AuditTables
{
    // A box in which an attack must beat chance, and noises enough for 200 that the classifier takes for their class.
    private const string Shards = "training.shards=30", Samples = "training.samplesPerShard=8";

    public static void Write(string output, string pictures, Bars bars)
    {
        var run = ClientRun.Of("examples/audit.yaml", output, Shards, Samples);
        Console.WriteLine("| radius | success | random signs | still its class to a classifier that took no part, of the successes | the same of all samples, before → after | taken for another class before → after | largest move | length of the move | device seconds a success |\n|---|---|---|---|---|---|---|---|---|");
        foreach (var trial in run.Trials)
        {
            var attack = trial.Attack();
            var radius = trial.Parameter("train.noise.box.radius");
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {radius} | {Cells.Share(attack.Success)} | {Cells.Share(attack.Chance)} | {Cells.Share(attack.Recognised)} | {Cells.Share(trial["heldOut.accuracy.before"])} → {Cells.Share(trial["heldOut.accuracy.after"])} | {attack.MetBefore} → {attack.MetAfter} of {attack.Noises} | {attack.LargestMove:f3} | {attack.Move:f2} | {Cells.Number(attack.SecondsPerSuccess ?? double.NaN, "f1")} |"));
            File.Copy(trial.File("before-after.png"), Path.Combine(pictures, string.Create(CultureInfo.InvariantCulture, $"audit-{trial.Index}.png")), overwrite: true);
        }

        // Of the boxes in which chance does next to nothing, the one that the attack does best in.
        var best = run.Trials.Select(trial => (trial.Index, Radius: trial.Parameter("train.noise.box.radius"), Attack: trial.Attack())).Where(row => row.Attack is { Success: not null, Chance: not null })
            .OrderByDescending(row => row.Attack.Chance!.Value < 0.05).ThenByDescending(row => row.Attack.Success!.Value).First();
        var (success, chance, recognised) = (best.Attack.Success!, best.Attack.Chance!, best.Attack.Recognised);
        bars.Add("audit", "≥ 90 % success on ≥ 200 correctly classified samples", $"{Cells.Share(success.Value)} of {success.Of}, radius {best.Radius}", success.Value >= 0.9 && success.Of >= 200);
        bars.Add("audit", "in a box where random noise of the same norm succeeds < 5 %", Cells.Number(chance.Value, "p1"), chance.Value < 0.05);
        bars.Add("audit", "and the held-out classifier still recognises ≥ 60 %", Cells.Share(recognised?.Value ?? double.NaN), recognised?.Value >= 0.6);
    }

    /// <summary>Networks that others trained as victims, where they lie beside the repository or were brought from a package.</summary>
    public static void WriteOthers(string output)
    {
        Console.WriteLine("| victim | goal | noises | success | by chance | still its class to the held-out classifier |\n|---|---|---|---|---|---|");
        if (BroughtClassifiers.Pretrained("mnist-mlp", "mnist_mlp_classifier", output) is { } perceptron)
            Row("MNIST perceptron of ml5 (94.5 %)", "any other digit", "examples/audit.yaml", "maxTrials=1", $"losses[0].classifier={perceptron}", "training.shards=5", "training.samplesPerShard=8");
        else
            Console.WriteLine("| MNIST perceptron of ml5 | not beside the repository | | | | |");
        if (BroughtClassifiers.SafetyFilter(output) is { } filter)
            Row("nsfwjs' MobileNetV2", "no longer Neutral", BroughtClassifiers.FilterAudit(filter, output));
        else
            Console.WriteLine($"| nsfwjs' MobileNetV2 | not in {output}/package: npm pack nsfwjs@4.4.0 and unpack it there | | | | |");

        void Row(string victim, string goal, string file, params string[] sets)
        {
            var attack = ClientRun.Of(file, output, sets).Trial.Attack();
            Console.WriteLine($"| {victim} | {goal} | {attack.Noises} | {Cells.Share(attack.Success)} | {Cells.Share(attack.Chance)} | {Cells.Share(attack.Recognised)} |");
        }
    }
}
