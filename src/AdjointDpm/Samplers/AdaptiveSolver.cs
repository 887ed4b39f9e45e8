namespace AdjointDpm.Samplers;

/// <summary>Solves dy/ds = factor(s, y) · value(s, y) by an embedded Runge–Kutta pair with step-size control, landing exactly on each end point asked for.</summary>
/// <remarks>
/// All of time, steps and coefficients are host doubles; of each step the host reads one number, the error ratio.
/// Step size, controller memory and a reusable last stage live on between calls of <see cref="Advance"/>, so that a solve over several intervals is one solve.
/// </remarks>
/// <typeparam name="T">State and slope.</typeparam>
internal sealed class AdaptiveSolver<T>
    where T : class
{
    private readonly ButcherTableau _tableau;
    private readonly StepControl _control;
    private readonly StateSpace<T> _space;
    private readonly Slope _slope;
    private readonly T[] _slopes;
    private readonly double[] _factors, _weights;
    private double _step, _last = 1, _beforeLast = 1;
    private bool _firstKnown;

    /// <summary>A solver at the beginning of its work.</summary>
    public AdaptiveSolver(ButcherTableau tableau, StepControl control, StateSpace<T> space, Slope slope)
    {
        if (tableau.Error.IsEmpty)
            throw new ArgumentException($"Tableau '{tableau.Name}' has no error estimate, so it cannot choose its steps. Use {ButcherTableau.Bosh3}, {ButcherTableau.Dopri5}, {ButcherTableau.Tsit5} or {ButcherTableau.Dopri8}.", nameof(tableau));
        (_tableau, _control, _space, _slope) = (tableau, control, space, slope);
        _slopes = new T[tableau.B.Length];
        (_factors, _weights) = (new double[tableau.B.Length], new double[tableau.B.Length]);
    }

    /// <summary>The right-hand side: a value and the number that it is to be multiplied with, so that a change of variable costs no tensor operation.</summary>
    public delegate (T Value, double Factor) Slope(double s, T y);

    /// <summary>Told of each accepted step while its slopes are alive; returns whether it has taken the first <see cref="ButcherTableau.SolutionStages"/> of them over.</summary>
    public delegate bool AcceptedStep(double from, double to, ReadOnlySpan<T> slopes);

    /// <summary>Steps accepted so far.</summary>
    public int Accepted { get; private set; }

    /// <summary>Steps rejected so far.</summary>
    public int Rejected { get; private set; }

    /// <summary>Size of the step to be tried next, for an estimate of how many are left.</summary>
    public double NextStep => _step;

    /// <summary>Forgets the reusable last stage: the state was replaced from outside.</summary>
    public void Restart()
    {
        if (_firstKnown)
            _space.Free(_slopes[0]);
        _firstKnown = false;
    }

    /// <summary>Integrates to an end point.</summary>
    /// <param name="y">State at <paramref name="from"/>; stays the caller's.</param>
    /// <param name="from">Start.</param>
    /// <param name="to">End, on either side of the start; the field is not evaluated outside the two.</param>
    /// <param name="accepted">Told of accepted steps.</param>
    /// <param name="attempting">Called before every attempt.</param>
    /// <returns>State at <paramref name="to"/>.</returns>
    /// <exception cref="StepSizeException">Steps became too small or too many.</exception>
    public T Advance(T y, double from, double to, AcceptedStep? accepted = null, Action? attempting = null)
    {
        var (s, state, ratio) = (from, y, 0.0);
        var direction = Math.Sign(to - from);
        var largest = Math.Max(Math.Abs(from), Math.Abs(to));
        var least = _control.MinStep ?? 16 * (Math.BitIncrement(largest) - largest);
        EnsureFirst(s, state);
        if (_step == 0)
            _step = Math.Min(_control.InitialStep ?? InitialStep(state, from, to), Math.Abs(to - from));
        while (s != to)
        {
            attempting?.Invoke();
            var left = Math.Abs(to - s);
            // The last two steps are made equal, rather than the last one as small as chance has it.
            var h = _step >= left * 0.99 ? left : _step > left / 2 ? left / 2 : _step;
            var next = h == left ? to : s + (direction * h);
            if (!(h >= least || h == left))
                throw new StepSizeException("The step size became too small", s, h, ratio, Accepted + Rejected);
            if (Accepted + Rejected >= _control.MaxSteps)
                throw new StepSizeException($"The solve needs more than {_control.MaxSteps} steps: it stopped", s, h, ratio, Accepted + Rejected);
            var (after, attempt) = Attempt(s, next, state);
            ratio = attempt;
            if (ratio <= 1)
            {
                Accepted++;
                Settle(s, next, accepted);
                if (!ReferenceEquals(state, y))
                    _space.Free(state);
                (s, state) = (next, after);
                var proposed = h * AfterAccepted(ratio);
                // A step cut short to land says nothing against the longer one that was due.
                _step = h < _step ? Math.Max(proposed, _step) : proposed;
                EnsureFirst(s, state, needed: s != to);
            }
            else
            {
                Rejected++;
                _space.Settle(false);
                _space.Free(after);
                for (var i = 1; i < _slopes.Length; i++)
                    _space.Free(_slopes[i]);
                _step = h * AfterRejected(ratio);
            }
        }

        return state;
    }

    private void EnsureFirst(double s, T state, bool needed = true)
    {
        if (_firstKnown || !needed)
            return;
        (_slopes[0], _factors[0]) = _slope(s, state);
        _firstKnown = true;
    }

    private (T After, double Ratio) Attempt(double from, double to, T y)
    {
        var h = to - from;
        var stages = _tableau.B.Length;
        var last = _tableau.FirstSameAsLast ? stages - 1 : stages;
        T? after = null;
        Absorb(0, h, reused: true);
        for (var i = 1; i < stages; i++)
        {
            var stage = _space.Combine(y, Weights(_tableau.A[i].AsSpan(), h), _slopes.AsSpan(0, i));
            (_slopes[i], _factors[i]) = _slope(_tableau.C[i] == 1 ? to : from + (_tableau.C[i] * h), stage);
            Absorb(i, h, reused: i == last);
            if (i == last)
                after = stage;
            else
                _space.Free(stage);
        }

        after ??= _space.Combine(y, Weights(_tableau.B.AsSpan(), h), _slopes);
        return (after, _space.Norm(Weights(_tableau.Error.AsSpan(), h), _slopes, y, after, _control));
    }

    private void Absorb(int i, double h, bool reused)
        => _space.Absorb(_slopes[i], h * _tableau.B[i] * _factors[i], h * _tableau.Error[i] * _factors[i], reused);

    // In the order in which a plan's weights are computed, so that a replay of the step has equal bits.
    private ReadOnlySpan<double> Weights(ReadOnlySpan<double> coefficients, double h)
    {
        for (var i = 0; i < coefficients.Length; i++)
            _weights[i] = h * coefficients[i] * _factors[i];
        return _weights.AsSpan(0, coefficients.Length);
    }

    private void Settle(double from, double to, AcceptedStep? accepted)
    {
        _space.Settle(true);
        var taken = accepted?.Invoke(from, to, _slopes) == true ? _tableau.SolutionStages : 0;
        var kept = _tableau.FirstSameAsLast ? _slopes.Length - 1 : _slopes.Length;
        for (var i = taken; i < kept; i++)
            _space.Free(_slopes[i]);
        _firstKnown = _tableau.FirstSameAsLast;
        if (_firstKnown)
            (_slopes[0], _factors[0]) = (_slopes[^1], _factors[^1]);
    }

    private double AfterAccepted(double ratio)
    {
        var r = Math.Max(ratio, 1e-10);
        var k = _tableau.ErrorOrder;
        var (p, i, d) = (_control.Proportional, _control.Integral, _control.Derivative);
        var factor = _control.Safety * Math.Pow(r, -(p + i + d) / k) * Math.Pow(_last, (p + (2 * d)) / k) * Math.Pow(_beforeLast, -d / k);
        (_beforeLast, _last) = (_last, r);
        return Math.Clamp(factor, _control.MinFactor, _control.MaxFactor);
    }

    private double AfterRejected(double ratio)
        => double.IsFinite(ratio) ? Math.Clamp(_control.Safety * Math.Pow(ratio, -1.0 / _tableau.ErrorOrder), _control.MinFactor, _control.Safety) : _control.MinFactor;

    // Hairer, Nørsett and Wanner (1993), II.4: a step whose explicit Euler error would be about the tolerance.
    private double InitialStep(T y, double from, double to)
    {
        var span = Math.Abs(to - from);
        var slope = _slopes.AsSpan(0, 1);
        double size = _space.Norm([1], [y], y, y, _control), speed = _space.Norm([_factors[0]], slope, y, y, _control);
        var h = Math.Min(size < 1e-5 || speed < 1e-5 ? 1e-6 : 0.01 * size / speed, span);
        if (!double.IsFinite(h))
            return span / 1000;
        var direction = Math.Sign(to - from);
        var probe = _space.Combine(y, [direction * h * _factors[0]], slope);
        var (value, factor) = _slope(from + (direction * h), probe);
        var bend = _space.Norm([factor, -_factors[0]], [value, _slopes[0]], y, y, _control) / h;
        _space.Free(probe);
        _space.Free(value);
        var steepest = Math.Max(speed, bend);
        var second = steepest <= 1e-15 ? Math.Max(1e-6, h * 1e-3) : Math.Pow(0.01 / steepest, 1.0 / _tableau.ErrorOrder);
        return double.IsFinite(second) ? Math.Min(100 * h, second) : span / 1000;
    }
}
