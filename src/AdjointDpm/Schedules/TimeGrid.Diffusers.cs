namespace AdjointDpm.Schedules;

/// <summary>The three ways in which diffusers' schedulers turn a spacing into time steps.</summary>
public enum SchedulerFamily
{
    /// <summary>DDIM, DDPM, PNDM: trained steps, the last of them at or near 0.</summary>
    OneStep,

    /// <summary>DPM-Solver, DEIS, UniPC: trained steps with one more point, the end, in the spacing.</summary>
    Multistep,

    /// <summary>Euler, Heun, KDPM2, LMS: fractional times, with sigma / alpha interpolated linearly between trained steps.</summary>
    Interpolated,
}

public sealed partial class TimeGrid
{
    /// <summary>The family of a diffusers scheduler by the name of its class.</summary>
    public static SchedulerFamily FamilyOf(string? className) => className switch
    {
        "DPMSolverMultistepScheduler" or "DPMSolverSinglestepScheduler" or "DEISMultistepScheduler" or "UniPCMultistepScheduler" => SchedulerFamily.Multistep,
        "EulerDiscreteScheduler" or "EulerAncestralDiscreteScheduler" or "HeunDiscreteScheduler" or "LMSDiscreteScheduler"
            or "KDPM2DiscreteScheduler" or "KDPM2AncestralDiscreteScheduler" => SchedulerFamily.Interpolated,
        _ => SchedulerFamily.OneStep,
    };

    /// <summary>The time steps that a diffusers scheduler visits, followed by the end point.</summary>
    /// <param name="schedule">Discrete schedule of N trained steps.</param>
    /// <param name="kind"><see cref="GridKind.Leading"/>, <see cref="GridKind.Trailing"/>, <see cref="GridKind.Linspace"/>, or <see cref="GridKind.Karras"/> ("use_karras_sigmas") for families other than <see cref="SchedulerFamily.OneStep"/>.</param>
    /// <param name="steps">Number of steps, from 1 to N.</param>
    /// <param name="offset">diffusers' steps_offset, added to leading steps. Default: 0.</param>
    /// <param name="endWithoutNoise">Whether the last step removes all noise (set_alpha_to_one, final_sigmas_type "zero") or stops at trained step 0. Default: true.</param>
    /// <param name="family">Kind of scheduler. Default: <see cref="SchedulerFamily.OneStep"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">Too many steps, an offset that leaves the schedule, or a kind that the family does not have.</exception>
    public static TimeGrid Diffusers(DiscreteVp schedule, GridKind kind, int steps, int offset = 0, bool endWithoutNoise = true, SchedulerFamily family = SchedulerFamily.OneStep) =>
        Diffusers(schedule, new() { Kind = kind, Steps = steps, Offset = offset, EndWithoutNoise = endWithoutNoise, Family = family });

    /// <summary>The time steps that a diffusers scheduler visits, followed by the end point.</summary>
    /// <param name="schedule">Discrete schedule of N trained steps.</param>
    /// <param name="spacing">How they are spaced.</param>
    /// <exception cref="ArgumentOutOfRangeException">Too many steps, an offset that leaves the schedule, or a kind that the family does not have.</exception>
    public static TimeGrid Diffusers(DiscreteVp schedule, DiffusersSpacing spacing)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        ArgumentNullException.ThrowIfNull(spacing);
        var (kind, steps, family) = (spacing.Kind, spacing.Steps, spacing.Family);
        CheckSteps(steps);
        // All steps that are trained, and those that a run may begin from.
        var trained = schedule.TrainSteps;
        var last = trained - Enumerable.Range(0, trained).Count(n => schedule.At(n).Lambda < spacing.MinimalLambda);
        if (steps > last)
            throw new ArgumentOutOfRangeException(nameof(spacing), steps, $"The network was trained on {last} steps: a {kind} grid has at most so many.");
        var ratio = (double)trained / steps;
        if (kind == GridKind.Trailing)
            steps = (int)Math.Ceiling(last / ratio);
        // Multistep schedulers count the end among the points that are spread.
        var extra = family == SchedulerFamily.Multistep ? 1 : 0;
        // Karras' levels are spread between the ends of the usual spacing in one family, of the whole schedule in the other.
        var (most, least) = kind != GridKind.Karras ? default
            : family == SchedulerFamily.Interpolated && !spacing.IsGeometric ? (Spaced(0, spacing.Within).Rho, Spaced(steps - 1, spacing.Within).Rho) : (schedule.RhoMax, schedule.RhoMin);
        (most, least) = (spacing.MostRho ?? most, spacing.LeastRho ?? least);
        var points = new GridPoint[steps + 1];
        for (var n = 0; n < steps; n++)
            points[n] = Told(kind == GridKind.Karras && family != SchedulerFamily.OneStep ? Karras(n) : Spaced(n, kind));
        points[steps] = new(0, spacing.IsGeometric && kind != GridKind.Karras ? Geometric(steps) : spacing.EndWithoutNoise ? new(1, 0) : kind == GridKind.Karras && family == SchedulerFamily.Multistep ? points[steps - 1].Level : schedule.At(0));
        // From a level to itself nothing changes: diffusers takes that step, we leave it out.
        return new(schedule, points[steps].Rho == points[steps - 1].Rho ? points[..^1] : points);

        GridPoint Spaced(int n, GridKind spread) => spread switch
        {
            GridKind.Leading => Trained(((steps - 1 - n + extra) * (last / (steps + extra))) + spacing.Offset),
            GridKind.Trailing => Trained(Math.Round(last - (n * ratio)) - 1),
            GridKind.Linspace when steps + extra == 1 => Trained(family == SchedulerFamily.Interpolated ? trained - 1 : 0),
            // These times are float32 in diffusers, and fractional.
            GridKind.Linspace when family == SchedulerFamily.Interpolated => Between((float)((double)(steps - 1 - n) * (trained - 1) / (steps - 1))),
            GridKind.Linspace => Trained(Math.Round((double)(steps - 1 - n + extra) * (last - 1) / (steps - 1 + extra))),
            _ => throw new ArgumentOutOfRangeException(nameof(spacing), spread, $"diffusers spaces time steps of {family} schedulers by Leading, Trailing or Linspace{(family == SchedulerFamily.OneStep ? "" : ", or by Karras' levels")}."),
        } is var point && spacing.IsGeometric ? point with { Level = Geometric(n) } : point;

        GridPoint Trained(double time) => new(time, schedule.At(time));

        GridPoint Between(double time)
        {
            double below = schedule.At(Math.Floor(time)).Rho, above = schedule.At(Math.Ceiling(time)).Rho;
            return new(time, NoiseLevel.VariancePreserving(below + ((time - Math.Floor(time)) * (above - below))));
        }

        NoiseLevel Geometric(int n) => NoiseLevel.VariancePreserving(Math.Exp(Math.Log(schedule.RhoMax) + (Math.Log(schedule.RhoMin / schedule.RhoMax) * n / steps)));

        // Karras et al., equation 5.
        GridPoint Karras(int n)
        {
            double first = Math.Pow(most, 1.0 / 7), end = Math.Pow(least, 1.0 / 7);
            return At(n == 0 ? most : n == steps - 1 ? least : Math.Pow(first + ((end - first) * n / (steps - 1)), 7));
        }

        // The time follows by linear interpolation of log rho, and is rounded by most of the multistep family.
        GridPoint At(double rho)
        {
            var floor = Math.Min((int)schedule.TimeAt(Math.Clamp(rho, schedule.RhoMin, schedule.RhoMax)), trained - 2);
            double below = Math.Log(schedule.At(floor).Rho), above = Math.Log(schedule.At(floor + 1).Rho);
            var time = Math.Clamp(floor + ((Math.Log(rho) - below) / (above - below)), floor, floor + 1);
            return new(spacing.RoundsTimes ?? family == SchedulerFamily.Multistep ? Math.Round(time) : time, NoiseLevel.VariancePreserving(rho));
        }

        GridPoint Told(GridPoint point) => spacing.TellsLogSigma ? point with { Time = 0.25 * Math.Log(point.Rho) } : point;
    }
}
