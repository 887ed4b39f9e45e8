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
    public static TimeGrid Diffusers(DiscreteVp schedule, GridKind kind, int steps, int offset = 0, bool endWithoutNoise = true, SchedulerFamily family = SchedulerFamily.OneStep)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        CheckSteps(steps);
        var trained = schedule.TrainSteps;
        if (steps > trained)
            throw new ArgumentOutOfRangeException(nameof(steps), steps, $"The network was trained on {trained} steps: a {kind} grid has at most so many.");
        // Multistep schedulers count the end among the points that are spread.
        var extra = family == SchedulerFamily.Multistep ? 1 : 0;
        var points = new GridPoint[steps + 1];
        for (var n = 0; n < steps; n++)
        {
            points[n] = kind switch
            {
                GridKind.Leading => Trained(((steps - 1 - n + extra) * (trained / (steps + extra))) + offset),
                GridKind.Trailing => Trained(Math.Round(trained - ((double)n * trained / steps)) - 1),
                GridKind.Linspace when steps + extra == 1 => Trained(family == SchedulerFamily.Interpolated ? trained - 1 : 0),
                // These times are float32 in diffusers, and fractional.
                GridKind.Linspace when family == SchedulerFamily.Interpolated => Between((float)((double)(steps - 1 - n) * (trained - 1) / (steps - 1))),
                GridKind.Linspace => Trained(Math.Round((double)(steps - 1 - n + extra) * (trained - 1) / (steps - 1 + extra))),
                GridKind.Karras when family != SchedulerFamily.OneStep => KarrasPoint(n),
                _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, $"diffusers spaces time steps of {family} schedulers by Leading, Trailing or Linspace{(family == SchedulerFamily.OneStep ? "" : ", or by Karras' levels")}."),
            };
        }

        points[steps] = new(0, endWithoutNoise ? new(1, 0) : schedule.At(0));
        // From trained step 0 to trained step 0 nothing changes: diffusers takes that step, we leave it out.
        return new(schedule, !endWithoutNoise && points[steps - 1].Time == 0 ? points[..^1] : points);

        GridPoint Trained(double time) => new(time, schedule.At(time));

        GridPoint Between(double time)
        {
            double below = schedule.At(Math.Floor(time)).Rho, above = schedule.At(Math.Ceiling(time)).Rho;
            return new(time, NoiseLevel.VariancePreserving(below + ((time - Math.Floor(time)) * (above - below))));
        }

        // Levels of Karras et al., equation 5; the time follows by linear interpolation of log rho, and is rounded by the multistep family.
        GridPoint KarrasPoint(int n)
        {
            double first = Math.Pow(schedule.RhoMax, 1.0 / 7), last = Math.Pow(schedule.RhoMin, 1.0 / 7);
            var rho = n == 0 ? schedule.RhoMax : n == steps - 1 ? schedule.RhoMin : Math.Pow(first + ((last - first) * n / (steps - 1)), 7);
            var floor = Math.Min((int)schedule.TimeAt(rho), trained - 2);
            double below = Math.Log(schedule.At(floor).Rho), above = Math.Log(schedule.At(floor + 1).Rho);
            var time = Math.Clamp(floor + ((Math.Log(rho) - below) / (above - below)), 0, trained - 1);
            return new(family == SchedulerFamily.Multistep ? Math.Round(time) : time, NoiseLevel.VariancePreserving(rho));
        }
    }
}
