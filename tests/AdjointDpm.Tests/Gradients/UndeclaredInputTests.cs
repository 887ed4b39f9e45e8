using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Whatever a predictor reads and nobody declared is an error that names it, wherever it hides and at whatever step it first matters: never a silent zero.</summary>
public sealed class UndeclaredInputTests
{
    private static readonly GradientMethod[] Methods =
    [
        GradientMethod.Discrete, GradientMethod.StoreAll, GradientMethod.Checkpointed(2), GradientMethod.Truncated(2), GradientMethod.Continuous(), GradientMethod.AdjointDeis(),
        GradientMethod.Continuous(new StepControl { Relative = 1e-3, Absolute = 1e-3 }),
    ];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void CapturedLocal_IsNamedAsInTheSource()
    {
        using var scope = NewDisposeScope();
        var temperature = Leaf();
        Names(NoiseField.From((x, _) => x.mul(temperature)), "temperature");
    }

    [Fact]
    public void ElementOfACollection_IsNamedByItsPlace()
    {
        using var scope = NewDisposeScope();
        Tensor[] scales = [zeros(1, ScalarType.Float64), Leaf()];
        var byName = new Dictionary<string, Tensor> { ["shift"] = Leaf() };
        Names(NoiseField.From((x, _) => x.mul(scales[1])), "scales[1]");
        Names(NoiseField.From((x, _) => x.add(byName["shift"], TestScalars.One)), "byName[shift]");
    }

    [Fact]
    public void WeightsAndBuffersOfACapturedNetwork_AreNamedByTheirPaths()
    {
        using var scope = NewDisposeScope();
        using var net = new Scaled();
        Names(NoiseField.From((x, _) => net.call(x)), "net.weight", "net.level");
        // The buffer is left over when the weights are declared.
        Names(NoiseField.From((x, _) => net.call(x)).With("scaled", net), "net.level");
        Names(NoiseField.From((x, _) => net.call(x)).Knowing("scaled", net), "scaled.weight", "net.level");
    }

    [Fact]
    public void FieldsAndProperties_OfTheObjectThatPredicts_AreNamed()
    {
        using var scope = NewDisposeScope();
        var predictor = new Predictor(Leaf()) { Scale = Leaf() };
        Names(NoiseField.From(predictor.Predict), "Scale", "_shift");
        Names(NoiseField.From((x, t) => predictor.Predict(x, t)), "predictor.Scale", "predictor._shift");
    }

    [Fact]
    public void BothHalvesOfGuidance_ItsScaleAndTheClassifier_AreSearched()
    {
        using var scope = NewDisposeScope();
        Tensor empty = Leaf(), full = Leaf(), w = Leaf(), bias = Leaf();
        var field = NoiseField.Guided((x, _) => x.mul(empty), (x, _) => x.mul(full), w);
        Names(field, "empty", "full", "scale");
        Names(field.With("empty", empty).With("full", full), "scale");
        Names(NoiseField.From((x, _) => x).WithClassifier((x, _) => x.mul(bias).sum([1]), 2), "bias");
    }

    // A network for the last steps only, as of mixtures of experts by noise level: the first evaluation does not see it.
    [Fact]
    public void TensorThatMattersLate_IsFoundWhenItDoes()
    {
        using var scope = NewDisposeScope();
        Tensor early = Leaf(), late = Leaf();
        var byTime = NoiseField.From((x, t) => t > 300 ? x.mul(early) : x.mul(late)).With("early", early);
        Names(byTime, "late");
        Names(NoiseField.From((x, _, n) => x.mul(n < 3 ? early : late)).With("early", early), "late");
        Names(byTime.WithClassifier((x, _) => x.sum([1]), 2), "late");
        foreach (var sampler in new Sampler[] { Sampler.DpmSolver2M, Sampler.Rk4, new AdaptiveSampler(ButcherTableau.Dopri5, new() { Relative = 1e-2, Absolute = 1e-2 }) })
            Assert.Equal(["late"], Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(Request(byTime, sampler), x => x.sum(), cancellationToken: Token)).Names);
        var reversible = Request(byTime, new ReversibleSampler(ButcherTableau.Midpoint));
        Assert.Equal(["late"], Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(reversible, x => x.sum(), GradientMethod.Reversible, Token)).Names);
    }

    [Fact]
    public void TensorThatIsHeldButDoesNotMatter_IsNoError()
    {
        using var scope = NewDisposeScope();
        Tensor used = Leaf(), spare = Leaf();
        var field = NoiseField.From((x, t) => t < 0 ? spare : x.mul(used)).With("used", used);
        foreach (var method in Methods)
        {
            using var result = Sampling.Differentiate(Request(field, Sampler.Ddim), x => x.sum(), method, Token);
            Assert.NotEqual(0, result.Inputs["used"].Number());
            Assert.True(used.requires_grad && spare.requires_grad);
        }
    }

    // Lambdas of one method hold its captured variables together; only what the prediction depends on is named, and grads stay as they were.
    [Fact]
    public void TensorThatOnlyTheLossReads_IsNotNamed()
    {
        using var scope = NewDisposeScope();
        Tensor used = Leaf(), ofLoss = Leaf();
        ofLoss.grad = full(1, 3.0, ScalarType.Float64);
        var request = Request(NoiseField.From((x, _) => x.mul(used)), Sampler.Ddim);
        foreach (var method in Methods)
            Assert.Equal(["used"], Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(request, x => x.mul(ofLoss).sum(), method, Token)).Names);
        Assert.Equal(3, ofLoss.grad!.Number());
        Assert.Null(used.grad);
    }

    [Fact]
    public void TensorOutOfReach_IsStillAnError()
    {
        using var scope = NewDisposeScope();
        OutOfReach = Leaf();
        var request = Request(NoiseField.From((x, _) => x.mul(OutOfReach!)), Sampler.Ddim);
        foreach (var method in Methods)
        {
            var error = Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(request, x => x.sum(), method, Token));
            Assert.Empty(error.Names);
            Assert.Contains("name is unknown", error.Message, StringComparison.Ordinal);
        }
    }

    private static Tensor? OutOfReach { get; set; }

    private static void Names(NoiseField field, params string[] names)
    {
        foreach (var method in Methods)
        {
            var error = Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(Request(field, Sampler.Ddim), x => x.sum(), method, Token));
            Assert.Equal(names.Order(StringComparer.Ordinal), error.Names.Order(StringComparer.Ordinal));
            Assert.Contains(string.Join(", ", error.Names), error.Message, StringComparison.Ordinal);
        }
    }

    private static SampleRequest Request(NoiseField field, Sampler sampler) => new()
    {
        Field = field,
        Noise = ones([1, 2], ScalarType.Float64),
        Grid = TimeGrid.UniformTime(DiscreteVp.StableDiffusion, 5),
        Sampler = sampler,
    };

    private static Tensor Leaf() => ones(1, ScalarType.Float64).requires_grad_();

    private sealed class Scaled : nn.Module<Tensor, Tensor>
    {
        private readonly TorchSharp.Modules.Parameter weight = nn.Parameter(ones(1, ScalarType.Float64));
        private readonly Tensor level = Leaf();

        public Scaled()
            : base(nameof(Scaled))
        {
            register_buffer(nameof(level), level);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => x.mul(weight).mul(level);
    }

    private sealed class Predictor(Tensor shift)
    {
        private readonly Tensor _shift = shift;

        public required Tensor Scale { get; init; }

        public Tensor Predict(Tensor x, double time) => x.mul(Scale).add(_shift, TestScalars.One);
    }
}
