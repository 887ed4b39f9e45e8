using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Figures;

/// <summary>What each gradient method costs, by the number of steps: evaluations counted, memory measured.</summary>
internal static class Costs
{
    private static readonly (string Name, Sampler Sampler, GradientMethod Method)[] Methods =
    [
        ("store-all", Sampler.Ddim, GradientMethod.StoreAll),
        ("discrete", Sampler.Ddim, GradientMethod.Discrete),
        ("checkpointed(10)", Sampler.Ddim, GradientMethod.Checkpointed(10)),
        ("checkpointed(3)", Sampler.Ddim, GradientMethod.Checkpointed(3)),
        ("truncated(5)", Sampler.Ddim, GradientMethod.Truncated(5)),
        ("continuous", Sampler.Ddim, GradientMethod.Continuous()),
        ("reversible", new ReversibleSampler(ButcherTableau.Euler), GradientMethod.Reversible),
    ];

    private static readonly string[] Names = [.. Methods.Select(m => m.Name)];

    public static Study Evaluations { get; } = new("evaluations", "adjoints.md", ["steps", .. Names], () => Counted(Methods, s => $"{s.ForwardNfe} + {s.BackwardNfe}"), table => [Figure.Of("evaluations", theme => DrawEvaluations(table, theme))]);

    /// <summary>The one study whose figures hang on the machine's C library: they agree within a few percent.</summary>
    public static Study Memory { get; } = new("memory", "adjoints.md", ["steps", .. Names.Select(n => $"{n}, MB")], MemoryRows, table => [Figure.Of("memory", theme => DrawMemory(table, theme))]);

    // What autograd keeps for store-all is not ours to count.
    public static Study Tensors { get; } = new("tensors", "adjoints.md", ["steps", .. Names.Skip(1)], () => Counted(Methods[1..], s => $"{s.PeakLiveTensors}"), table => [Figure.Of("tensors", theme => DrawTensors(table, theme))]);

    private static IEnumerable<string[]> Counted((string Name, Sampler Sampler, GradientMethod Method)[] methods, Func<SolveStatistics, string> count)
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(1);
        foreach (var steps in new[] { 5, 10, 20, 40, 80, 160, 320, 640 })
        {
            yield return [$"{steps}", .. methods.Select(m =>
            {
                using var result = mixture.Gradient(m.Sampler, steps, m.Method);
                return count(result.Statistics);
            })];
        }
    }

    private static IEnumerable<string[]> MemoryRows()
    {
        using var scope = NewDisposeScope();
        var folder = Path.Combine(Page.Folder, "..", "tests", "AdjointDpm.Tests", "Reference", "unet_condition");
        using var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(folder, "config.json")));
        ModuleWeights.Load(unet, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
        unet.eval();
        var context = CounterNoise.Normal(new(1), [1, 6, 32]);
        var field = unet.Field(context).With("context", context).With("unet", unet);
        foreach (var steps in new[] { 5, 10, 20, 40 })
        {
            yield return [$"{steps}", .. Methods.Select(m =>
            {
                // What earlier runs left to the collector is not this one's.
                GC.Collect();
                GC.WaitForPendingFinalizers();
                var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(2), [1, 4, 16, 16]), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps), Sampler = m.Sampler };
                using var result = Sampling.Differentiate(request, x => x.square().mean(), m.Method);
                return Study.Digits(result.Statistics.PeakLiveBytes / 1e6 ?? double.NaN, "0.0");
            })];
        }
    }

    private static Chart DrawEvaluations(Table table, Theme theme)
    {
        var chart = new Chart(theme, "steps", "evaluations per step, forward and backward") { X = Scale.Powers(2, 5, 640, from: 5), Y = Scale.Powers(2, 1, 16) };
        var steps = table.Column("steps");
        foreach (var (name, label) in new[] { ("store-all", "store-all"), ("discrete", "discrete, continuous"), ("checkpointed(10)", "checkpointed(10)"), ("checkpointed(3)", "checkpointed(3)"), ("truncated(5)", "truncated(5)"), ("reversible", "reversible (Euler)") })
            chart.Line(label, steps, [.. table.Column(name).Zip(steps, (e, n) => e / n)]);
        return chart;
    }

    private static Chart DrawTensors(Table table, Theme theme)
    {
        var chart = new Chart(theme, "steps", "most tensors held at once") { X = Scale.Powers(2, 5, 640, from: 5), Y = Scale.Powers(2, 16, 1024) };
        foreach (var (name, label) in new[] { ("discrete", "discrete, continuous"), ("checkpointed(10)", "checkpointed(10)"), ("reversible", "reversible (Euler)"), ("checkpointed(3)", "checkpointed(3)") })
            chart.Line(label, table.Column("steps"), table.Column(name));
        return chart;
    }

    private static Chart DrawMemory(Table table, Theme theme)
    {
        var chart = new Chart(theme, "steps", "most memory in use (MB)") { X = Scale.Powers(2, 5, 40, from: 5), Y = Scale.Powers(2, 8, 512) };
        foreach (var (name, label) in new[] { ("store-all", "store-all"), ("discrete", "all others") })
            chart.Line(label, table.Column("steps"), table.Column($"{name}, MB"));
        return chart;
    }
}
