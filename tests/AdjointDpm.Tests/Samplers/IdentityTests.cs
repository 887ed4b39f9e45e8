using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Samplers that are the same method under different names, and what methods cost.</summary>
public sealed class IdentityTests
{
    private static readonly TimeGrid Grid = TimeGrid.Karras(new LinearVp(), 17);

    public static TheoryData<string> FirstStepIsEuler() => ["dpm++2m", "dpm++3m", "dpm-2m", "dpm++2s", "dpm-2s", "deis2", "deis3", "unipc2", "unipc3", "ab2"];

    [Fact]
    public void Ddim_UnderItsOtherNames_IsTheSame()
    {
        Sampler[] others =
        [
            new DpmSolver(1), new DpmSolver(1, Prediction.Epsilon), new Deis(1), Sampler.FlowEuler,
            new RungeKutta("data-euler", ButcherTableau.Euler, Coordinates.Data),
        ];
        var ddim = Trajectory(Sampler.Ddim);
        foreach (var other in others)
            Assert.All(Trajectory(other).Zip(ddim), x => Assert.Equal(x.Second, x.First, 1e-13));
        Assert.Equal(Trajectory(Sampler.Heun), Trajectory(new EdmHeun { Churn = 0 }));
    }

    [Theory]
    [MemberData(nameof(FirstStepIsEuler))]
    public void FirstStep_MethodsThatNeedHistory_IsEulers(string sampler)
        => Assert.Equal(Trajectory(Sampler.Ddim)[0], Trajectory(Sampler.Named(sampler))[0], 1e-14);

    // Ho et al. (2020), equations 6 and 7: mean and variance of the posterior, with betas between the grid's points.
    [Fact]
    public void Ddpm_OneStep_IsThePosteriorOfTheDiffusion()
    {
        var (s, t) = (Grid.Points[4], Grid.Points[5]);
        double before = s.Level.Alpha * s.Level.Alpha, after = t.Level.Alpha * t.Level.Alpha, alpha = before / after;
        double ofSample = Math.Sqrt(after) * (1 - alpha) / (1 - before), ofX = Math.Sqrt(alpha) * (1 - after) / (1 - before), deviation = Math.Sqrt((1 - after) / (1 - before) * (1 - alpha));
        var grid = new TimeGrid(Grid.Schedule, s, t);
        const double x = 0.7, sample = -0.4, draw = 1.3;
        var actual = ScalarWalk.Run(Sampler.Ddpm, grid, x, ScalarWalk.Denoiser((_, _) => sample), (_, _) => draw);
        Assert.Equal((ofSample * sample) + (ofX * x) + (deviation * draw), actual, 1e-14);
        Assert.Same(Sampler.Ddpm, Sampler.Named("euler-ancestral"));
    }

    // k-diffusion's ancestral Euler: sigma_up² = sigma_t² (sigma_s² - sigma_t²) / sigma_s², sigma_down² = sigma_t² - sigma_up².
    [Fact]
    public void Ddpm_InVarianceExplodingCoordinates_IsAncestralEuler()
    {
        var grid = TimeGrid.Karras(new VarianceExploding(), 5);
        double x = 40, s = grid.Points[0].Rho, t = grid.Points[1].Rho, up = Math.Sqrt(t * t * ((s * s) - (t * t)) / (s * s)), down = Math.Sqrt((t * t) - (up * up));
        const double sample = 0.6, draw = -0.8;
        double first = 0;
        ScalarWalk.Run(Sampler.Ddpm, grid, x, ScalarWalk.Denoiser((_, _) => sample), (_, _) => draw, (n, y) => first = n == 0 ? y : first);
        Assert.Equal(x + ((x - sample) / s * (down - s)) + (up * draw), first, 1e-12);
    }

    [Theory]
    [InlineData(18, 35)]
    [InlineData(40, 79)]
    [InlineData(256, 511)]
    public void EdmHeun_GridToNoNoise_TakesTwoEvaluationsAStepLessOne(int steps, int evaluations)
    {
        var grid = ToZero(TimeGrid.Karras(new VarianceExploding(), steps - 1));
        Assert.Equal(evaluations, Evaluations(Sampler.Heun, grid));
        Assert.Equal(evaluations, Evaluations(Sampler.Edm, grid));
        Assert.Equal(evaluations, Evaluations(Sampler.Dpm2, grid));
    }

    [Fact]
    public void Plan_MultistepMethods_EvaluateOnceAStepAfterTheirStart()
    {
        var grid = ToZero(TimeGrid.Karras(new VarianceExploding(), 29));
        string[] once = ["ddim", "ab2", "dpm++2m", "dpm++3m", "dpm++3m-exact", "dpm++2s", "dpm-2m", "dpm-2s", "deis2", "deis3", "unipc2", "unipc2-bh1", "unipc3", "ddpm", "sde-dpm++1", "sde-dpm++2m", "euler-maruyama", "flow-euler"];
        Assert.All(once, name => Assert.Equal(30, Evaluations(Sampler.Named(name), grid)));
        Assert.Equal(31, Evaluations(Sampler.Plms, grid));
        Assert.Equal(32, Evaluations(Sampler.Adams3, grid));
        Assert.Equal(39, Evaluations(Sampler.Adams4, grid));
        // Two steps of four stages: the published attack's 36 evaluations for 30 steps.
        Assert.Equal(36, Evaluations(OfficialCode.ExplicitAdams(), grid));
    }

    // AdjointDEIS (Blasingame and Liu 2024, equation 2.14) with cached states: a_s = (alpha_t / alpha_s) a_t + sigma_s (e^h - 1) (alpha_t / alpha_s)² J(x_t, t)ᵀ a_t, h = lambda_s - lambda_t.
    [Fact]
    public void ContinuousEuler_OnStoredStates_IsAdjointDeis1()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 8, 0.05, 10) };
        using var result = Sampling.Differentiate(request, x => x.Squared().sum(), GradientMethod.Continuous(), TestContext.Current.CancellationToken);
        using var grad = no_grad();
        using var two = 2.0.ToScalar();
        var a = result.Sample.mul(two);
        for (var n = request.Grid.Steps - 1; n >= 0; n--)
        {
            var (s, t) = (request.Grid.Points[n], request.Grid.Points[n + 1]);
            using var until = Sampling.Sample(request with { Grid = new(request.Grid.Schedule, [.. request.Grid.Points.Take(n + 2)]) }, TestContext.Current.CancellationToken);
            var (_, pulled) = Vjp.Of(x => net.Predict(x, t.Time, c), until.Sample, a);
            var ratio = t.Level.Alpha / s.Level.Alpha;
            using Scalar keep = ratio.ToScalar(), move = (s.Level.Sigma * Accurate.Expm1(s.Level.Lambda - t.Level.Lambda) * ratio * ratio).ToScalar();
            a = a.mul(keep).add(pulled, move);
        }

        Assert.InRange(TestScalars.RelativeError(result.Noise, a), 0, 1e-13);
    }

    [Fact]
    public void Sampler_NamesAreUniqueAndFound()
    {
        Assert.Equal(Sampler.Known.Count, Sampler.Known.Select(s => s.Name).Distinct().Count());
        Assert.All(Sampler.Known, s => Assert.Same(s, Sampler.Named(s.Name)));
    }

    private static TimeGrid ToZero(TimeGrid grid) => new(grid.Schedule, [.. grid.Points, new GridPoint(grid.Schedule.CleanTime, new(1, 0))]);

    private static int Evaluations(Sampler sampler, TimeGrid grid) => Enumerable.Range(0, grid.Steps).Sum(n => sampler.Plan(grid, n).Evaluations.Length);

    private static double[] Trajectory(Sampler sampler)
    {
        var visited = new List<double>();
        ScalarWalk.Run(sampler, Grid, 0.2, OrderTests.Mixture, visit: (_, x) => visited.Add(x));
        return [.. visited];
    }
}
