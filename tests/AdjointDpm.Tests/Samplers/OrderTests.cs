using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Samplers;

public sealed class OrderTests
{
    [Fact]
    public void Explore()
    {
        foreach (var s in Sampler.Known.Where(s => !s.IsStochastic))
        {
            foreach (var (name, grid) in new (string, Func<int, TimeGrid>)[] { ("edm", n => TimeGrid.Karras(new VarianceExploding(), n)), ("vp-logsnr", n => TimeGrid.LogSnr(new LinearVp(), n)), ("vp-time", n => TimeGrid.UniformTime(new LinearVp(), n)), ("vp-karras", n => TimeGrid.Karras(new LinearVp(), n)) })
            {
                var e = Enumerable.Range(0, 6).Select(k => 40 << k).Select(n => Math.Abs(Error(s, grid(n)))).ToArray();
                TestContext.Current.SendDiagnosticMessage($"{s.Name,-14} {name,-10} " + string.Join(" ", e.Zip(e.Skip(1), (a, b) => Math.Log2(a / b).ToString("f2"))) + "   " + string.Join(" ", e.Select(x => x.ToString("e1"))));
            }
        }
    }

    private static double Error(Sampler sampler, TimeGrid grid)
    {
        var x = 0.2 * grid.Start.Level.Sigma;
        var fine = TimeGrid.LogSnr(grid.Schedule, 8000, grid.End.Rho, grid.Start.Rho);
        return ScalarWalk.Run(sampler, grid, x, Mixture) - ScalarWalk.Run(Sampler.Rk4, fine, x, Mixture);
    }

    // Data .3 N(-1, .04) + .7 N(1, .04).
    private static readonly ScalarWalk.Network Mixture = ScalarWalk.Denoiser((y, rho) =>
    {
        const double s2 = 0.04;
        double v = s2 + (rho * rho), odds = 0.3 / 0.7 * Math.Exp(-2 * y / v), right = 1 / (1 + odds);
        return (((s2 * y) - (rho * rho)) * (1 - right) / v) + (((s2 * y) + (rho * rho)) * right / v);
    });
}
