using System.Collections.Immutable;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>One solve under way: its plans, counters and checks. Used on one thread.</summary>
internal sealed partial class Solve : IDisposable
{
    private readonly CancellationToken _cancellation;
    private readonly bool _guarded;
    private readonly List<string> _warnings = [];
    private int _forwardNfe, _backwardNfe, _vjps, _recomputed, _offloaded;
    private SolvePhase _phase = SolvePhase.Forward;
    private TimeSpan _forward, _loss, _backward;
    private bool? _hasSuspects;

    /// <summary>Plans all steps.</summary>
    /// <param name="request">What to solve.</param>
    /// <param name="guarded">Whether to look for non-finite values after every evaluation: slow, for finding the first one.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public Solve(SampleRequest request, bool guarded, CancellationToken cancellation)
    {
        Request = request;
        _guarded = guarded;
        _cancellation = cancellation;
        RequestedGrid = request.Grid;
        if (request.Controls.Count > 0 && request.Sampler is AdaptiveSampler or ReversibleSampler)
            throw new NotSupportedException($"Sampler '{request.Sampler.Name}' takes no controls of its states: {(request.Sampler is AdaptiveSampler ? "its steps are found as it runs" : "its state is two")}. Add controls to the noise, in the predictor.");
        Plans = request.Sampler is AdaptiveSampler ? [] : [.. Enumerable.Range(0, request.Grid.Steps).Select(n => request.Sampler.Plan(request.Grid, n))];
    }

    /// <summary>What is solved.</summary>
    public SampleRequest Request { get; private set; }

    /// <summary>The numbers of each step.</summary>
    public ImmutableArray<StepPlan> Plans { get; private set; }

    /// <summary>Peaks of live tensors and bytes.</summary>
    public MemoryProbe Memory { get; } = new();

    /// <summary>Leaves that receive gradients; empty while only sampling.</summary>
    public BorrowedLeaves? Leaves { get; init; }

    /// <summary>Whether every value of a tensor is finite. Waits for the device.</summary>
    public static bool IsFinite(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        Tally.Reads++;
        return tensor.isfinite().all().IsTrue();
    }

    /// <summary>The state at the grid's start, y_T = x_T / scale_T.</summary>
    public SamplerState Start(Tensor noise) => Steer(new(0, [AtStart(noise)], Request.Key, Request.FirstSample));

    /// <summary>The sample x_0 = scale_0 y_0; also carries cotangents, whose chain rule has the same factor.</summary>
    public Tensor AtEnd(Tensor y) => y.Times(Request.Sampler.Coordinates.Scale(Request.Grid.End.Level));

    /// <summary>Carries x_T to y_T, and a cotangent from y_T to x_T.</summary>
    public Tensor AtStart(Tensor cotangent) => cotangent.Times(1 / Request.Sampler.Coordinates.Scale(Request.Grid.Start.Level));

    /// <summary>Walks the grid towards the sample.</summary>
    /// <param name="state">State to walk from; released on the way unless kept.</param>
    /// <param name="evaluator">Evaluates the network in a step.</param>
    /// <param name="keepState">Called before each step; true keeps the state for the caller, who releases it.</param>
    /// <param name="keepNoise">Called with each evaluation's noise: step, evaluation, noise.</param>
    /// <param name="until">Step to stop before. Default: the end.</param>
    /// <returns>State reached.</returns>
    public SamplerState Walk(SamplerState state, Func<int, Stepping.Evaluator> evaluator, Predicate<SamplerState>? keepState = null, Action<int, int, Tensor>? keepNoise = null, int? until = null)
    {
        for (var n = state.Step; n < (until ?? Plans.Length); n++)
        {
            _cancellation.ThrowIfCancellationRequested();
            var kept = keepState?.Invoke(state) ?? false;
            var step = n;
            var next = Stepping.Apply(Plans[n], state, evaluator(n), keepNoise is null ? null : (i, eps) => keepNoise(step, i, eps));
            if (!kept)
                Release(state);
            state = Steer(next);
            Check(state.Y, "state", n, Request.Grid.Points[n + 1].Rho);
            Memory.Look();
            if (_phase == SolvePhase.Forward)
                Report(n + 1);
        }

        return state;
    }

    /// <summary>Counts a tensor that was put into main memory.</summary>
    public void CountOffloaded() => _offloaded++;

    /// <summary>Disposes a state's tensors.</summary>
    public static void Release(SamplerState state)
    {
        foreach (var slot in state.Slots)
            slot.Dispose();
    }

    /// <summary>Evaluates the field without a graph.</summary>
    public Stepping.Evaluator Evaluate(int step) => (evaluation, x, at, wanted) =>
    {
        if (Known(step, evaluation) is { } known)
            return known;
        Tensor eps;
        if (Leaves is not null && (_forwardNfe == 0 || !Request.Field.HasClassifier || HasSuspects))
            eps = EvaluateLookingForUndeclared(x, at, wanted, step);
        else
            eps = Request.Field.Evaluate(x, at, wanted, step);
        _forwardNfe++;
        CheckPrediction(eps, x, at, wanted, step);
        return eps;
    };

    /// <summary>Evaluates the field without a graph, on the way back, where it was evaluated before.</summary>
    public Stepping.Evaluator EvaluateAgain(int step) => (_, x, at, wanted) =>
    {
        _backwardNfe++;
        _recomputed++;
        return Request.Field.Evaluate(x, at, wanted, step);
    };

    /// <summary>Evaluates the field in grad mode, where its graph is kept by the result.</summary>
    public Stepping.Evaluator EvaluateWithGraph(int step) => (_, x, at, wanted) =>
    {
        if (_forwardNfe == 0 || HasSuspects)
            Probe(step, x, at, wanted);
        var eps = Request.Field.Evaluate(x, at, wanted, step);
        _forwardNfe++;
        CheckPrediction(eps, x, at, wanted, step);
        return eps;
    };

    // Names of the undeclared tensors that a prediction depends on.
    private string[] Reached(Tensor prediction)
    {
        var suspects = Request.Field.Undeclared();
        var before = suspects.Select(s => s.Value.grad?.DetachFromDisposeScope()).ToArray();
        foreach (var (_, tensor) in suspects)
            tensor.grad = null;
        Vjp.Accumulate([(prediction, ones_like(prediction))], [.. suspects.Select(s => s.Value)]);
        string[] reached = [.. suspects.Where(s => s.Value.grad is not null).Select(s => s.Name)];
        foreach (var ((_, tensor), grad) in suspects.Zip(before))
        {
            tensor.grad = grad;
            grad?.Dispose();
        }

        return reached;
    }

    // Whether the predictors hold a tensor that requires grad and was not declared: it may matter at any step, or at none.
    private bool HasSuspects => _hasSuspects ??= Request.Field.Undeclared().Count > 0;

    // Where declared inputs require grad, undeclared ones look alike: the search for them is an evaluation of its own.
    private void Probe(int step, Tensor x, GridPoint at, Prediction wanted)
    {
        using var scope = NewDisposeScope();
        Leaves!.Disarm();
        EvaluateLookingForUndeclared(x, at, wanted, step);
        Leaves.Arm();
        CountProbe();
    }

    /// <summary>Counts an evaluation made only to look for undeclared inputs.</summary>
    public void CountProbe() => _recomputed++;

    /// <summary>Evaluates with nothing but undeclared tensors requiring grad, and throws if the result does. Without such tensors no graph is made, so that looking costs nothing.</summary>
    public Tensor EvaluateLookingForUndeclared(Tensor x, GridPoint at, Prediction wanted, int step)
    {
        using var grad = enable_grad();
        var eps = Request.Field.Evaluate(x.detach(), at, wanted, step);
        return eps.requires_grad ? throw new UndeclaredInputException(Reached(eps)) : eps;
    }

    /// <summary>Notes something that the caller should know about the result.</summary>
    public void Warn(string warning) => _warnings.Add(warning);

    /// <summary>Counts the products of one sweep of plain automatic differentiation through the sampler.</summary>
    public void CountUnrolled() => _vjps += _forwardNfe;

    /// <summary>One evaluation with its graph, and its vector–Jacobian product: one network graph at a time.</summary>
    /// <param name="step">Step, for messages.</param>
    /// <param name="x">Network input.</param>
    /// <param name="at">Time and level.</param>
    /// <param name="wanted">What the evaluation stands for.</param>
    /// <param name="cotangent">Cotangent of the prediction.</param>
    /// <param name="intoInputs">Whether declared inputs accumulate too.</param>
    /// <returns>The prediction and the cotangent of x.</returns>
    public (Tensor Noise, Tensor Gradient) Pull(int step, Tensor x, GridPoint at, Prediction wanted, Tensor cotangent, bool intoInputs = true)
    {
        using var scope = NewDisposeScope();
        var leaf = x.detach().requires_grad_();
        Tensor[] leaves = intoInputs ? [leaf, .. Leaves!.Inputs] : [leaf];
        Tensor? noise = null;
        var scale = Leaves is { ScalesCotangents: true } ? ScaleOf(cotangent) : 1;
        using Scalar up = scale.ToScalar(), down = (1 / scale).ToScalar();
        cotangent = scale == 1 ? cotangent : cotangent.mul(up);
        foreach (var term in Request.Field.Terms)
        {
            using var graphScope = NewDisposeScope();
            Tensor eps;
            using (enable_grad())
                eps = term(Request.Field, leaf, at, step, wanted);
            Memory.Look();
            Vjp.Accumulate(eps, cotangent, leaves);
            Leaves?.Settle(scale);
            var part = eps.detach();
            noise = (noise is null ? part : noise.Plus(part)).MoveToOuterDisposeScope();
        }

        _backwardNfe++;
        _vjps++;
        var gradient = leaf.grad ?? zeros_like(leaf);
        gradient = scale == 1 ? gradient : gradient.mul(down);
        Check(gradient, "gradient of the state", step, at.Rho);
        if (_guarded && Leaves!.FirstNonFinite() is { } name)
            throw new NonFiniteException($"gradient of input '{name}'", step, at.Rho);
        return (noise!.MoveToOuterDisposeScope(), gradient.MoveToOuterDisposeScope());
    }

    /// <summary>The power of two that brings the largest number near one: where float16 has as much room above as below, and without rounding.</summary>
    private static double ScaleOf(Tensor cotangent)
    {
        using var scope = NewDisposeScope();
        var largest = cotangent.abs().max().to(ScalarType.Float64).Number();
        return largest > 0 && double.IsFinite(largest) ? Math.ScaleB(1, -Math.ILogB(largest)) : 1;
    }

    /// <summary>Before a step of the backward sweep.</summary>
    public void ThrowIfCancelled() => _cancellation.ThrowIfCancellationRequested();

    /// <summary>Tells the caller how far the phase has come.</summary>
    public void Report(int done) => Request.Progress?.Report(new(_phase, done, Plans.Length));

    /// <summary>Runs a part of the work against the clock.</summary>
    public T Timed<T>(SolvePhase? phase, Func<T> work)
    {
        _phase = phase ?? _phase;
        var start = Request.Clock.GetTimestamp();
        var result = work();
        var spent = Request.Clock.GetElapsedTime(start);
        switch (phase)
        {
            case SolvePhase.Forward: _forward += spent; break;
            case SolvePhase.Backward: _backward += spent; break;
            default: _loss += spent; break;
        }

        return result;
    }

    /// <summary>What it cost so far.</summary>
    public SolveStatistics Statistics() => new()
    {
        Steps = Plans.Length,
        Rejected = _rejected,
        BackwardSteps = _backwardSteps,
        BackwardRejected = _backwardRejected,
        ForwardNfe = _forwardNfe,
        BackwardNfe = _backwardNfe,
        Vjps = _vjps,
        Recomputed = _recomputed,
        Offloaded = _offloaded,
        PeakLiveTensors = Memory.PeakTensors,
        PeakLiveBytes = Memory.PeakBytes,
        Forward = _forward,
        Loss = _loss,
        Backward = _backward,
        Warnings = [.. _warnings],
    };

    private void CheckPrediction(Tensor prediction, Tensor x, GridPoint at, Prediction wanted, int step)
    {
        if (_guarded && !IsFinite(prediction))
            throw new NonFiniteException("prediction", step, at.Rho, NonFiniteLayer.Find(Request.Field.Networks, () => Request.Field.Evaluate(x, at, wanted, step)));
    }

    private void Check(Tensor tensor, string what, int step, double rho)
    {
        if (_guarded && !IsFinite(tensor))
            throw new NonFiniteException(what, step, rho);
    }
}
