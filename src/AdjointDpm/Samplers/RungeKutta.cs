using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>An explicit Runge–Kutta method on the probability-flow equation.</summary>
/// <param name="name">Short name.</param>
/// <param name="tableau">Coefficients.</param>
/// <param name="coordinates">Variables of the equation. Default: <see cref="Coordinates.Rho"/>, dy/drho = eps with y = x / alpha.</param>
/// <remarks>A step that starts or ends where the coordinates are not regular is DDIM's: in rho, a step to no noise, as in Karras et al. (2022), algorithm 1, and a step from pure noise.</remarks>
public sealed class RungeKutta(string name, ButcherTableau tableau, Coordinates? coordinates = null) : Sampler
{
    /// <summary>Whether a step to no noise is DDIM's also where the coordinates are regular there, as in diffusers' FlowMatchHeunDiscreteScheduler: the network is then never evaluated without noise. Default: false.</summary>
    public bool EulerToNoNoise { get; init; }

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override int Order => tableau.Order;

    /// <inheritdoc/>
    public override ButcherTableau Backward => tableau;

    /// <inheritdoc/>
    public override Coordinates Coordinates { get; } = coordinates ?? Coordinates.Rho;

    /// <inheritdoc/>
    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (!Coordinates.IsRegular(from.Level) || !Coordinates.IsRegular(to.Level) || (EulerToNoNoise && to.Level.Sigma == 0))
            return Ddim(from, to);
        var h = Coordinates.Variable(to.Level) - Coordinates.Variable(from.Level);
        // A last stage that serves only the error estimate is not evaluated on a fixed grid.
        var evaluations = new Evaluation[tableau.SolutionStages];
        for (var i = 0; i < evaluations.Length; i++)
        {
            var at = Coordinates.Between(grid, from, to, tableau.C[i]);
            evaluations[i] = new(at, [Term.Slot(0), .. tableau.A[i].Select((a, j) => Term.Evaluation(j, h * a))]) { Scale = Coordinates.Scale(at.Level), As = Coordinates.Slope };
        }

        return new(evaluations, [[Term.Slot(0), .. tableau.B.Select((b, i) => Term.Evaluation(i, h * b))]]);
    }

    // x0 and eps are held. Of the two, the network is asked for the one that x does not already tell.
    private new StepPlan Ddim(GridPoint from, GridPoint to)
    {
        var (a, s) = from.Level;
        var (toA, toS) = to.Level;
        var (scale, toScale) = (Coordinates.Scale(from.Level), Coordinates.Scale(to.Level));
        var (wanted, ofX, ofWanted) = a < s
            ? (Prediction.Sample, toS / s, toA - (a * toS / s))
            : (Prediction.Epsilon, toA / a, toS - (s * toA / a));
        return new(
            [new(from, [Term.Slot(0)]) { Scale = scale, As = wanted }],
            [[Term.Slot(0, ofX * scale / toScale), Term.Evaluation(0, ofWanted / toScale)]]);
    }
}
