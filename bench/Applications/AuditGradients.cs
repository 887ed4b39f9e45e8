using System.Globalization;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Scoring;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>What the audit of the recipe, its critic included, reaches with the exact gradient, the continuous adjoint and the gradient of the one-step guess x̂₀, all for the same evaluations of the network.</summary>
internal static class AuditGradients
{
    private const int Steps = 8;
    private const int Batch = 25;

    /// <param name="noises">Noises, digits in turn.</param>
    /// <param name="radius">Half the side of the box about each noise.</param>
    /// <param name="budgets">Evaluations of the network for each noise; the sample that is judged is not counted.</param>
    public static void Run(int noises, double radius, int[] budgets)
    {
        var folder = DiffusersFolder.Open("examples/models/mnist-dpm");
        using var unet = folder.LoadUNet2D();
        using var victim = ClassifierFolder.Load("examples/models/mnist-classifier");
        using var critic = ClassifierFolder.Load("examples/models/mnist-critic");
        using var other = ClassifierFolder.Load("examples/models/mnist-classifier-heldout");
        var schedule = folder.ReadScheduler().Grid(steps: 1).Schedule;
        // Ends above zero noise, where the adjoint's equation still exists.
        var whole = TimeGrid.LogSnr(schedule, Steps);
        (string Name, TimeGrid Grid, GradientMethod? Method)[] ways =
        [
            ("discrete adjoint", whole, GradientMethod.Discrete),
            ("continuous adjoint, Euler", whole, GradientMethod.Continuous()),
            ("continuous adjoint, Heun", whole, GradientMethod.Continuous(ButcherTableau.Heun)),
            ("one-step guess x̂₀", TimeGrid.LogSnr(schedule, 1), GradientMethod.Discrete),
            ("random signs", whole, null),
        ];
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{noises} noises of mnist-dpm, DDIM with {Steps} steps in log-SNR, sign ascent of the recipe's two margins in a box of radius {radius}; a step is 4 radii by the number of steps. An evaluation forward or backward (with its product) counts 1."));
        Console.WriteLine("\n| gradient | evaluations a noise | steps | success rate | successes by 1000 evaluations | still its class to the held-out classifier, of the successes |\n|---|---|---|---|---|---|");
        foreach (var budget in budgets)
        {
            foreach (var (name, grid, method) in ways)
                Row(name, grid, method, budget);
        }

        void Row(string name, TimeGrid grid, GradientMethod? method, int budget)
        {
            var (eligible, success, recognised, steps, evaluations) = (0, 0, 0, 0, 0L);
            for (var first = 0; first < noises; first += Batch)
            {
                using var scope = NewDisposeScope();
                var count = Math.Min(Batch, noises - first);
                long[] labels = [.. Enumerable.Range(first, count).Select(i => i % 10L)];
                using var away = new MarginLoss(victim, AuditGoal.Untargeted, 0.5, labels);
                using var kept = new MarginLoss(critic, AuditGoal.Targeted, 2, labels);
                var loss = new WeightedLoss((1, away), (1, kept));
                var centre = CounterNoise.Normal(new(Seed: 11, Draw: (ushort)(first / Batch)), [count, 1, 28, 28]);
                var attacked = new SampleRequest { Field = unet.Field(labels: tensor(labels), guidance: 1).Freeze(unet), Noise = centre, Grid = grid, Sampler = Sampler.Ddim };
                var drawn = attacked with { Grid = whole };
                var before = Said(victim, drawn);
                var spent = 0;
                var x = centre;
                if (method is null)
                {
                    var signs = CounterNoise.Normal(new(Seed: 12, Draw: (ushort)(first / Batch)), [count, 1, 28, 28]).sign();
                    x = centre.add(signs.mul(radius));
                }
                else
                {
                    var each = Evaluations(attacked, loss, method);
                    steps = budget / each;
                    var length = 4 * radius / steps;
                    for (var step = 0; step < steps; step++)
                    {
                        using var inner = NewDisposeScope();
                        using var gradients = Sampling.Differentiate(attacked with { Noise = x }, loss.Sum, method);
                        spent += gradients.Statistics.ForwardNfe + gradients.Statistics.BackwardNfe;
                        x = centre.add(x.sub(gradients.Noise.sign().mul(length)).sub(centre).clamp(-radius, radius)).MoveToOuterDisposeScope();
                    }
                }
                var (after, judged) = (Said(victim, drawn with { Noise = x }), Said(other, drawn with { Noise = x }));
                evaluations += spent * count;
                foreach (var i in Enumerable.Range(0, count).Where(i => before[i] == labels[i]))
                {
                    eligible++;
                    success += after[i] != labels[i] ? 1 : 0;
                    recognised += after[i] != labels[i] && judged[i] == labels[i] ? 1 : 0;
                }
            }
            var perThousand = 1000.0 / evaluations;
            var (low, high) = WilsonInterval.Of(success, eligible);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {name} | {(double)evaluations / noises:f0} | {steps} | {Text(success, eligible)} | {(evaluations == 0 ? "–" : $"{success * perThousand:f2} ({low * eligible * perThousand:f2} to {high * eligible * perThousand:f2})")} | {(success == 0 ? "–" : Text(recognised, success))} |"));

            static string Text(int count, int of) => Cells.Share(new AttackShare(count, of, WilsonInterval.Of(count, of).Low, WilsonInterval.Of(count, of).High));
        }
    }

    private static int Evaluations(SampleRequest request, SampleLoss loss, GradientMethod method)
    {
        using var scope = NewDisposeScope();
        using var gradients = Sampling.Differentiate(request, loss.Sum, method);
        return gradients.Statistics.ForwardNfe + gradients.Statistics.BackwardNfe;
    }

    private static long[] Said(ImageClassifier judge, SampleRequest request)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        return judge.Logits(Sampling.Sample(request).Sample).argmax(1).data<long>().ToArray();
    }
}
