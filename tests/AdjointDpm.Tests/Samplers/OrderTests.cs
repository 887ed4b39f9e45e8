using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Orders of convergence by refining grids, on the plans themselves; tensors are shown to do as the plans say.</summary>
public sealed class OrderTests
{
    private static readonly Sampler[] Extra =
    [
        new UniPc(1) { LowerOrderFinal = false }, new UniPc(2) { LowerOrderFinal = false }, new UniPc(3) { LowerOrderFinal = false }, new UniPc(2, Prediction.Epsilon) { LowerOrderFinal = false },
        new DpmSolver(2) { Correction = DpmCorrection.Heun }, new DpmSolver(3, Prediction.Epsilon), new DpmSolver(3, Prediction.Epsilon) { ExactThirdOrder = true },
        new RungeKutta("data-midpoint", ButcherTableau.Midpoint, Coordinates.Data), OfficialCode.ExplicitAdams(4),
        new ReversibleSampler(ButcherTableau.Midpoint), new ReversibleSampler(ButcherTableau.Heun), new ReversibleSampler(ButcherTableau.Rk4),
    ];

    private static readonly LinearVp Schedule = new();

    private const double Start = 0.2;

    // Data .3 N(-1, .04) + .7 N(1, .04).
    internal static ScalarWalk.Network Mixture { get; } = ScalarWalk.Denoiser((y, rho) =>
    {
        const double s2 = 0.04;
        double v = s2 + (rho * rho), right = 1 / (1 + (0.3 / 0.7 * Math.Exp(-2 * y / v)));
        return ((s2 * y) + (rho * rho * ((2 * right) - 1))) / v;
    });

    private static readonly Lazy<double> Exact = new(() => ScalarWalk.Run(Sampler.Rk4, TimeGrid.LogSnr(Schedule, 20_000), Start, Mixture));

    public static TheoryData<string> Deterministic() => [.. Sampler.Known.Concat(Extra).Where(s => !s.IsStochastic).Select((s, i) => $"{i} {s.Name}")];

    [Theory]
    [MemberData(nameof(Deterministic))]
    public void Plans_KarrasGridsRefined_ConvergeWithTheSamplersOrder(string numberAndName)
    {
        var sampler = Sampler.Known.Concat(Extra).Where(s => !s.IsStochastic).ElementAt(int.Parse(numberAndName.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture));
        int[] steps = sampler switch
        {
            // UniPC's steps of lower order at the end are so accurate on these grids that they show late.
            UniPc { LowerOrderFinal: true } => [2560, 5120],
            // The two states of a reversible sampler forget each other's errors over a thousand steps.
            ReversibleSampler { Order: 2 } => [10240, 20480],
            _ => [640, 1280],
        };
        var errors = steps.Select(n => Math.Abs(ScalarWalk.Run(sampler, TimeGrid.Karras(Schedule, n), Start, Mixture) - Exact.Value)).ToArray();
        var order = Math.Log2(errors[0] / errors[1]);
        Assert.True(Math.Abs(sampler.Order - order) < 0.15, $"order {order:f2}, errors {errors[0]:e2}, {errors[1]:e2}");
    }
}
