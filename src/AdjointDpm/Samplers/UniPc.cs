using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>B(h) of UniPC: a free function that vanishes with h.</summary>
public enum UniPcFunction
{
    /// <summary>e^h - 1, "bh2": diffusers' default.</summary>
    ExponentialMinusOne,

    /// <summary>h, "bh1".</summary>
    Step,
}

/// <summary>UniPC (Zhao et al. 2023), predictor and corrector of orders 1 to 3 with one evaluation a step, as in diffusers' UniPCMultistepScheduler.</summary>
/// <remarks>
/// The evaluation at a predicted state corrects that state, then serves the next prediction; the last state is not corrected. The corrector raises the order by one (theorem 3.1). The start, of order 1 and corrected, leaves at most 3 in the limit and a last step of order 1 leaves 2; both show late on grids from much noise to little.
/// State: y as predicted, y as corrected one point before, predictions latest first.
/// </remarks>
public sealed class UniPc : Sampler
{
    private readonly int _terms;

    /// <summary>A UniPC sampler.</summary>
    /// <param name="order">Order p of the predictor, from 1 to 3.</param>
    /// <param name="form"><see cref="Prediction.Sample"/> (diffusers' predict_x0) or <see cref="Prediction.Epsilon"/>. Default: x0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The order or the form is none of these.</exception>
    public UniPc(int order, Prediction form = Prediction.Sample)
    {
        if (order is < 1 or > 3)
            throw new ArgumentOutOfRangeException(nameof(order), order, $"UniPC has orders 1 to 3 here, not {order}.");
        if (form is not (Prediction.Sample or Prediction.Epsilon))
            throw new ArgumentOutOfRangeException(nameof(form), form, $"UniPC works in Sample or Epsilon, not in {form}.");
        (_terms, Form) = (order, form);
    }

    /// <summary>The prediction that is interpolated.</summary>
    public Prediction Form { get; }

    /// <summary>B(h). Default: e^h - 1.</summary>
    public UniPcFunction Function { get; init; }

    /// <summary>Whether the last steps fall in order, down to 1, at any length of run. Default: true.</summary>
    public bool LowerOrderFinal { get; init; } = true;

    /// <summary>Steps whose end is not corrected, from 0: diffusers' disable_corrector. Default: none.</summary>
    public IReadOnlyCollection<int> Uncorrected { get; init; } = [];

    /// <inheritdoc/>
    public override string Name => $"unipc{_terms}{(Function == UniPcFunction.Step ? "-bh1" : "")}{(Form == Prediction.Epsilon ? "-eps" : "")}";

    /// <inheritdoc/>
    public override int Order => LowerOrderFinal ? 2 : _terms + 1;

    /// <inheritdoc/>
    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var first = History.First(grid);
        if (step < first || grid.Points[step + 1].Level.Alpha == 0)
            return Ddim.Plan(grid, step);
        var fresh = Combination.Evaluation(0);
        // Corrected by this evaluation, unless it is the first.
        var y = step == first || Uncorrected.Contains(step - 1)
            ? Combination.Slot(0)
            : Correct(grid, step - 1, TermsAt(grid, step - 1), [.. Enumerable.Range(2, Math.Min(step - first, _terms)).Select(Combination.Slot)], fresh);
        Combination[] known = [fresh, .. Enumerable.Range(2, Math.Min(step - first, _terms - 1)).Select(Combination.Slot)];
        var next = Predict(grid, step, TermsAt(grid, step), y, known);
        return new([new(grid.Points[step], [Term.Slot(0)]) { As = Form }], [next.Terms, y.Terms, .. known.Select(k => k.Terms)]);
    }

    // Order of the step from a point, predictor's and corrector's alike.
    private int TermsAt(TimeGrid grid, int step)
        => Math.Min(Math.Min(_terms, step - History.First(grid) + 1), LowerOrderFinal ? grid.Steps - step : _terms);

    private Combination Predict(TimeGrid grid, int step, int order, Combination y, Combination[] m)
    {
        if (!Coordinates.IsRegular(grid.Points[step + 1].Level))
            return Form == Prediction.Sample ? m[0] : y - (grid.Points[step].Rho * m[0]);
        var (nodes, differences) = Differences(grid, step, order, m);
        var weights = order == 2 ? [0.5] : Solve(nodes, order - 1, step, grid);
        return Advance(grid, step, y, m[0], weights.Select((w, k) => w * differences[k]));
    }

    // From the corrected state one point before, with the prediction that was made at the end of that step.
    private Combination Correct(TimeGrid grid, int step, int order, Combination[] m, Combination fresh)
    {
        var (nodes, differences) = Differences(grid, step, order, m);
        var weights = order == 1 ? [0.5] : Solve([.. nodes, 1], order, step, grid);
        return Advance(grid, step, Combination.Slot(1), m[0], differences.Append(fresh - m[0]).Select((d, k) => weights[k] * d));
    }

    private static (double[] Nodes, Combination[] Differences) Differences(TimeGrid grid, int step, int order, Combination[] m)
    {
        var h = Step(grid, step);
        double[] nodes = [.. Enumerable.Range(1, order - 1).Select(k => (History.Lambda(grid, step - k) - History.Lambda(grid, step)) / h)];
        return (nodes, [.. nodes.Select((r, k) => (m[k + 1] - m[0]) / r)]);
    }

    private Combination Advance(TimeGrid grid, int step, Combination y, Combination m, IEnumerable<Combination> corrections)
    {
        var (from, to) = (grid.Points[step].Rho, grid.Points[step + 1].Rho);
        var z = Signed(grid, step);
        var start = Form == Prediction.Sample ? (to / from * y) + ((1 - (to / from)) * m) : y + ((to - from) * m);
        var scale = -B(z) * (Form == Prediction.Sample ? 1 : to);
        return corrections.Aggregate(start, (sum, c) => sum + (scale * c));
    }

    // Σ_k a_k r_k^(i-1) = h phi_(i+1)(h) i! / B(h), i = 1 … count.
    private double[] Solve(double[] nodes, int count, int step, TimeGrid grid)
    {
        if (count == 0)
            return [];
        var z = Signed(grid, step);
        var rows = new double[count, count + 1];
        var factorial = 1.0;
        for (var i = 0; i < count; i++)
        {
            factorial *= i + 1;
            for (var k = 0; k < count; k++)
                rows[i, k] = Math.Pow(nodes[k], i);
            rows[i, count] = z * Phi.At(i + 2, z) * factorial / B(z);
        }

        return LinearSystem(rows, count);
    }

    // Two unknowns or three: Gaussian elimination with row pivots.
    private static double[] LinearSystem(double[,] rows, int count)
    {
        for (var c = 0; c < count; c++)
        {
            var pivot = Enumerable.Range(c, count - c).MaxBy(r => Math.Abs(rows[r, c]));
            for (var k = 0; k <= count; k++)
                (rows[c, k], rows[pivot, k]) = (rows[pivot, k], rows[c, k]);
            for (var r = 0; r < count; r++)
            {
                if (r == c)
                    continue;
                var factor = rows[r, c] / rows[c, c];
                for (var k = c; k <= count; k++)
                    rows[r, k] -= factor * rows[c, k];
            }
        }

        return [.. Enumerable.Range(0, count).Select(r => rows[r, count] / rows[r, r])];
    }

    private double B(double z) => Function == UniPcFunction.Step ? z : Accurate.Expm1(z);

    // The step in lambda, negative in the x0 form.
    private double Signed(TimeGrid grid, int step) => Form == Prediction.Sample ? -Step(grid, step) : Step(grid, step);

    private static double Step(TimeGrid grid, int step) => History.Lambda(grid, step + 1) - History.Lambda(grid, step);
}
