namespace AdjointDpm.Schedules;

/// <summary>How the betas of a discrete-time schedule grow.</summary>
public enum BetaSchedule
{
    /// <summary>Linear in beta: DDPM.</summary>
    Linear,

    /// <summary>Linear in the square root of beta: Stable Diffusion.</summary>
    ScaledLinear,

    /// <summary>Squared cosine of Nichol and Dhariwal (2021), capped at 0.999; diffusers' "squaredcos_cap_v2".</summary>
    SquaredCosine,
}

/// <summary>The variance-preserving schedule of a network trained on N discrete steps: alpha_n² = Π (1 - beta_i). Times are 0 … N-1.</summary>
/// <remarks>Between the trained steps log alpha is interpolated linearly in time (Lu et al. 2022, DPM-Solver, "discrete-time" schedule), so that samplers may ask for any noise level.</remarks>
public sealed class DiscreteVp : NoiseSchedule
{
    private readonly double[] _logAlpha;

    /// <summary>Builds the schedule from betas.</summary>
    /// <param name="betas">One beta in (0, 1) per trained step, at least two.</param>
    /// <exception cref="ArgumentException">Fewer than two betas, or one outside (0, 1).</exception>
    public DiscreteVp(params ReadOnlySpan<double> betas)
    {
        if (betas.Length < 2)
            throw new ArgumentException($"A discrete schedule needs at least two betas, got {betas.Length}.", nameof(betas));
        _logAlpha = new double[betas.Length];
        var sum = 0.0;
        for (var n = 0; n < betas.Length; n++)
        {
            if (!(betas[n] > 0 && betas[n] < 1))
                throw new ArgumentException($"Betas must lie in (0, 1), but betas[{n}] = {betas[n]}.", nameof(betas));
            sum += Accurate.Log1p(-betas[n]);
            _logAlpha[n] = sum / 2;
        }
    }

    private DiscreteVp(IEnumerable<double> logAlpha) => _logAlpha = [.. logAlpha];

    /// <inheritdoc/>
    public override double CleanTime => 0;

    /// <inheritdoc/>
    public override double NoisyTime => _logAlpha.Length - 1;

    /// <summary>Number of trained steps N.</summary>
    public int TrainSteps => _logAlpha.Length;

    /// <summary>Stable Diffusion 1.x: 1000 steps, scaled-linear betas from 0.00085 to 0.012.</summary>
    public static DiscreteVp StableDiffusion { get; } = Create(BetaSchedule.ScaledLinear, 0.00085, 0.012);

    /// <summary>Builds the schedule from the two numbers of a model card.</summary>
    /// <param name="schedule">How betas grow.</param>
    /// <param name="betaStart">First beta; unused by <see cref="BetaSchedule.SquaredCosine"/>.</param>
    /// <param name="betaEnd">Last beta; unused by <see cref="BetaSchedule.SquaredCosine"/>.</param>
    /// <param name="trainSteps">Number of trained steps N, at least 2. Default: 1000.</param>
    /// <exception cref="ArgumentException">A beta lies outside (0, 1).</exception>
    public static DiscreteVp Create(BetaSchedule schedule, double betaStart, double betaEnd, int trainSteps = 1000)
    {
        if (trainSteps < 2)
            throw new ArgumentOutOfRangeException(nameof(trainSteps), trainSteps, "A discrete schedule needs at least two trained steps.");
        var betas = new double[trainSteps];
        for (var n = 0; n < trainSteps; n++)
        {
            betas[n] = schedule switch
            {
                BetaSchedule.Linear => Mix(betaStart, betaEnd, n),
                BetaSchedule.ScaledLinear => Math.Pow(Mix(Math.Sqrt(betaStart), Math.Sqrt(betaEnd), n), 2),
                BetaSchedule.SquaredCosine => Math.Min(1 - (AlphaBar(n + 1) / AlphaBar(n)), 0.999),
                _ => throw new ArgumentOutOfRangeException(nameof(schedule), schedule, "Unknown beta schedule."),
            };
        }

        return new(betas);

        double Mix(double a, double b, int n) => a + ((b - a) * n / (trainSteps - 1));
        double AlphaBar(int n) => Math.Pow(Math.Cos(((double)n / trainSteps + 0.008) / 1.008 * Math.PI / 2), 2);
    }

    /// <summary>The same schedule moved and stretched in alpha so that the last trained step has no signal and the first is as it was. Lin et al. (2024), "Common diffusion noise schedules and sample steps are flawed", algorithm 1; diffusers' "rescale_betas_zero_snr".</summary>
    /// <param name="terminalAlphaSquared">alpha² that is left at the last step: diffusers leaves 2^-24 for schedulers that need a logarithm. Default: 0, so that rho is infinite there.</param>
    /// <remarks>A network of eps cannot begin without signal; such networks predict <see cref="Samplers.Prediction.Velocity"/>.</remarks>
    public DiscreteVp WithoutTerminalSignal(double terminalAlphaSquared = 0)
    {
        double first = Math.Exp(_logAlpha[0]), last = Math.Exp(_logAlpha[^1]);
        var logAlpha = _logAlpha.Select(l => Math.Log((Math.Exp(l) - last) * (first / (first - last)))).ToArray();
        logAlpha[0] = _logAlpha[0];
        logAlpha[^1] = Math.Log(terminalAlphaSquared) / 2;
        return new(logAlpha.AsEnumerable());
    }

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtTime(double time)
    {
        var n = Math.Min((int)time, _logAlpha.Length - 2);
        // Towards no signal log alpha has no end to go to: there alpha is linear.
        var logAlpha = double.IsInfinity(_logAlpha[n + 1]) ? _logAlpha[n] + Accurate.Log1p(n - time) : _logAlpha[n] + ((time - n) * (_logAlpha[n + 1] - _logAlpha[n]));
        return new(Math.Exp(logAlpha), Math.Sqrt(-Accurate.Expm1(2 * logAlpha)));
    }

    /// <inheritdoc/>
    protected override double TimeAtRho(double rho)
    {
        var logAlpha = -Accurate.Log1p(rho * rho) / 2;
        // log alpha falls with time: find the trained step just before this level.
        int low = 0, high = _logAlpha.Length - 1;
        while (high - low > 1)
        {
            var middle = (low + high) / 2;
            if (_logAlpha[middle] >= logAlpha)
                low = middle;
            else
                high = middle;
        }

        if (double.IsInfinity(_logAlpha[high]))
            return low - Accurate.Expm1(logAlpha - _logAlpha[low]);
        return low + ((logAlpha - _logAlpha[low]) / (_logAlpha[high] - _logAlpha[low]));
    }
}
