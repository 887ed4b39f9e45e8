using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>The stochastic sampler of Karras et al. (2022), algorithm 2: each step first raises the noise ("churn"), then takes Heun's step down. Two evaluations a step, one for a step to no noise.</summary>
/// <remarks>Noise is never raised above the schedule's <see cref="NoiseSchedule.RhoMax"/>, where the network was not trained. Without churn it is <see cref="Sampler.Heun"/>. Draws noise by <see cref="SampleRequest.Key"/>.</remarks>
public sealed class EdmHeun : Sampler
{
    /// <summary>S_churn: total noise added, spread evenly over the steps. Default: 40, the authors' for ImageNet.</summary>
    public double Churn { get; init; } = 40;

    /// <summary>S_tmin: least rho at which noise is added, in units of x0. Default: 0.05.</summary>
    public double From { get; init; } = 0.05;

    /// <summary>S_tmax: most rho at which noise is added, in units of x0. Default: 50.</summary>
    public double To { get; init; } = 50;

    /// <summary>S_noise: standard deviation of the added noise, a little above 1 against loss of detail. Default: 1.003.</summary>
    public double NoiseScale { get; init; } = 1.003;

    /// <inheritdoc/>
    public override string Name => this is { Churn: 40, From: 0.05, To: 50, NoiseScale: 1.003 } ? "edm" : FormattableString.Invariant($"edm(churn={Churn}, from={From}, to={To}, noise={NoiseScale})");

    /// <inheritdoc/>
    public override int Order => 1;

    /// <inheritdoc/>
    public override bool IsStochastic => true;

    /// <inheritdoc/>
    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        var gamma = from.Rho >= From && from.Rho <= To ? Math.Min(Churn / grid.Steps, Math.Sqrt(2) - 1) : 0;
        var raised = Math.Min(from.Rho * (1 + gamma), grid.Schedule.RhoMax);
        if (!(raised > from.Rho))
            return Heun.Plan(grid, step);
        // The two evaluations of Heun's step from the raised level, at a state with one more term.
        var heun = Heun.Plan(new TimeGrid(grid.Schedule, grid.Schedule.PointAt(raised), to), 0);
        var added = Term.Draw(0, NoiseScale * Math.Sqrt((raised * raised) - (from.Rho * from.Rho)));
        // Added to y wherever y is read; a step to no noise may be written in x0 alone.
        return new(
            heun.Evaluations.Select(e => e with { Y = e.Y.Add(added) }),
            heun.Next.Select(terms => terms.Concat(terms.Where(t => t.Source == TermSource.Slot).Select(y => added with { Weight = added.Weight * y.Weight }))));
    }
}

/// <summary>Karras et al.'s (2022) form of DPM-Solver-2: the midpoint method with the geometric mean as its midpoint. Second order, two evaluations a step.</summary>
internal sealed class Dpm2 : Sampler
{
    public override string Name => "dpm2";

    public override int Order => 2;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (!Coordinates.IsRegular(from.Level) || !Coordinates.IsRegular(to.Level))
            return Ddim.Plan(grid, step);
        var middle = grid.Schedule.PointAt(Math.Sqrt(from.Rho * to.Rho));
        return new(
            [new(from, [Term.Slot(0)]), new(middle, [Term.Slot(0), Term.Evaluation(0, middle.Rho - from.Rho)])],
            [[Term.Slot(0), Term.Evaluation(1, to.Rho - from.Rho)]]);
    }
}
