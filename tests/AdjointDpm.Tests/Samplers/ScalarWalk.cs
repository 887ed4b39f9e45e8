using System.Numerics;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Runs a sampler's plans on one number, without tensors: what the plans say, apart from how they are carried out.</summary>
internal static class ScalarWalk
{
    /// <summary>A network for one number: x, point, what is wanted.</summary>
    public delegate double Network(double x, GridPoint at, Prediction wanted);

    /// <summary>x_0 from x_T; <paramref name="visit"/> sees x after each step.</summary>
    public static double Run(Sampler sampler, TimeGrid grid, double x, Network network, Func<int, int, double>? draw = null, Action<int, double>? visit = null)
        => Walk(sampler, grid, x, (y, at, wanted) => network(y, at, wanted), draw, visit);

    /// <summary>The same for any numbers: complex ones carry a derivative along.</summary>
    public static T Walk<T>(Sampler sampler, TimeGrid grid, T x, Func<T, GridPoint, Prediction, T> network, Func<int, int, double>? draw = null, Action<int, T>? visit = null)
        where T : INumberBase<T>
    {
        T[] slots = [x / T.CreateChecked(sampler.Coordinates.Scale(grid.Start.Level))];
        for (var n = 0; n < grid.Steps; n++)
        {
            var plan = sampler.Plan(grid, n);
            var evaluations = new List<T>();
            foreach (var e in plan.Evaluations)
                evaluations.Add(network(T.CreateChecked(e.Scale) * Sum(e.Y, n, evaluations), e.At, e.As));
            slots = [.. plan.Next.Select(terms => Sum(terms, n, evaluations))];
            visit?.Invoke(n, slots[0] * T.CreateChecked(sampler.Coordinates.Scale(grid.Points[n + 1].Level)));
        }

        return slots[0] * T.CreateChecked(sampler.Coordinates.Scale(grid.End.Level));

        T Sum(IEnumerable<Term> terms, int n, List<T> evaluations) => terms.Aggregate(T.Zero, (sum, t) => sum + (T.CreateChecked(t.Weight) * t.Source switch
        {
            TermSource.Slot => slots[t.Index],
            TermSource.Evaluation => evaluations[t.Index],
            _ => T.CreateChecked(draw!(n, t.Index)),
        }));
    }

    /// <summary>A network that predicts x0 as given by the denoiser of y = x / alpha at rho.</summary>
    public static Network Denoiser(Func<double, double, double> denoise) => (x, at, wanted) =>
    {
        // At pure noise y does not exist: the mean of the data is all there is to say.
        var sample = at.Level.Alpha == 0 ? denoise(0, double.PositiveInfinity) : denoise(x / at.Level.Alpha, at.Rho);
        var (ofX, ofSample) = Prediction.Sample.To(wanted, at.Level);
        return (ofX * x) + (ofSample * sample);
    };
}
