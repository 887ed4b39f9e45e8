using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;

namespace AdjointDpm.Bench;

/// <summary>Six ways to train on a reward, for as many evaluations of the network each.</summary>
internal static class RewardComparison
{
    private const int Shards = 8;
    private static readonly int[] Seeds = [1, 2, 3];

    // Steps of the optimiser for about 576 evaluations each, forward and with a product: a step of 4 shards costs 48, 32, 44, about 38, about 26 and 72. What it came to stands in the table.
    private static readonly (string Method, string[] Sets, int Steps)[] Ways =
    [
        ("discrete", [], 12),
        ("truncated", ["gradient.last=2"], 18),
        ("low-variance", [], 13),
        ("alignprop", [], 15),
        ("refl", [], 22),
        ("adjoint-matching", [], 8),
    ];

    public static void Write(string output)
    {
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Means over seeds {string.Join(", ", Seeds)} with the standard deviation.\n"));
        Console.WriteLine("| gradient.method | steps | training evaluations | reward before → after, nats | held-out: −log p by a classifier that took no part | recognised by it | distance to the base model's samples | cosine to the unrolled gradient | most bytes of a shard | device seconds |\n|---|---|---|---|---|---|---|---|---|---|");
        foreach (var (method, sets, steps) in Ways)
        {
            var trials = Seeds.Select(seed => ClientRun.Of("examples/reward.yaml", output,
                [$"gradient.method={method}", .. sets, $"training.steps={steps}", $"heldOut.every={steps}", $"training.seed={seed}"]).Trial).ToList();
            string Of(Func<TrialRun, double> value, string format) => Cells.Spread([.. trials.Select(value)], format);
            Console.WriteLine($"| {string.Join(", ", [method, .. sets])} | {steps} | {Of(t => t.Cost("trainingForwardNfe") + t.Cost("trainingBackwardNfe"), "f0")} | {Of(t => -t["loss.before"], "f4")} → {Of(t => -t["loss.after"], "f4")} | {Of(t => t["heldOut.losses.crossEntropy.before"], "f4")} → {Of(t => t["heldOut.losses.crossEntropy.after"], "f4")} | {Of(t => t["heldOut.accuracy.before"], "p1")} → {Of(t => t["heldOut.accuracy.after"], "p1")} | {Of(t => t["heldOut.distance.after"], "f3")} | {Cells.Spread(Cosines(method, sets), "f3")} | {Cells.Number(trials.Max(t => t.Cost("peakLiveBytes")) / 1e6, "f1")} MB | {Of(t => t.Cost("trainingSeconds"), "f0")} |");
        }
    }

    /// <summary>Cosine of a method's gradient of the adapters to the unrolled one, of each of some shards before the first step.</summary>
    private static List<double> Cosines(string method, string[] sets)
    {
        var spec = ExperimentDocument.Load("examples/reward.yaml").Document!.Spec;
        spec = spec with { Training = spec.Training with { Shards = Shards }, HeldOut = null };
        var gradient = new GradientSpec { Method = Enum.Parse<GradientName>(method.Replace("-", "", StringComparison.Ordinal), ignoreCase: true), Last = sets.Length > 0 ? 2 : null };
        using var engine = new GradientEngine("cpu:0");
        var parameters = engine.Prepare(new TrialPlan(spec, ""), CancellationToken.None).Parameters;
        var version = new ParameterVersion(TensorReference.HashOf(parameters), parameters);
        return [.. Enumerable.Range(0, Shards).Select(shard => Cosine(Of(gradient, shard), Of(new GradientSpec { Method = GradientName.StoreAll }, shard)))];

        float[] Of(GradientSpec by, int shard) => MemoryMarshal.Cast<byte, float>(engine.Differentiate(new TrialPlan(spec with { Gradient = by }, ""), version, 0, shard, CancellationToken.None).Gradient).ToArray();

        static double Cosine(float[] a, float[] b) => System.Numerics.Tensors.TensorPrimitives.CosineSimilarity(a, b);
    }
}
