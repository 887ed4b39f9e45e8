using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>One solve between its way forward and its way back, with the tensors that it holds meanwhile.</summary>
internal sealed class SampleWalk : IDisposable
{
    private static readonly Scalar NaN = double.NaN.ToScalar();
    private readonly SampleRequest _request;
    private readonly GradientMethod _method;
    private readonly CancellationToken _cancellation;
    private readonly BorrowedLeaves _leaves;
    private readonly Solve _solve;
    private readonly Sweep _sweep;
    private Tensor? _sample;
    private IReadOnlyList<IDisposable> _held = [];
    private IReadOnlyList<Tensor> _given = [];
    private bool _spent;

    private SampleWalk(SampleRequest request, GradientMethod method, CancellationToken cancellation)
    {
        (_request, _method, _cancellation) = (request, method, cancellation);
        _leaves = new BorrowedLeaves(request.Field);
        try
        {
            _solve = new Solve(request, guarded: false, cancellation) { Leaves = _leaves, Objective = new Objective() };
            _solve.Timed(SolvePhase.Forward, () => _solve.FindSteps(method.WalksWithoutGraph));
            _sweep = method.Begin(_solve);
            _sample = _solve.Timed(SolvePhase.Forward, _sweep.Forward).detach();
        }
        finally
        {
            _leaves.GiveBack();
        }
    }

    public SolveStatistics Statistics => _solve.Statistics();

    public Exception? Failure { get; private set; }

    /// <summary>Samples, and keeps what the way back needs.</summary>
    public static SampleWalk Begin(SampleRequest request, GradientMethod method, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        var walk = new SampleWalk(request, method, cancellation);
        if (!Solve.IsFinite(walk._sample!))
        {
            // Once more, looking after every evaluation: this throws at the first place.
            Sampling.Sample(request, cancellation).Dispose();
            throw new NonFiniteException("sample");
        }

        walk._sample = walk._sample!.MoveToOuterDisposeScope();
        // Scopes belong to threads and calls: what the way back needs must outlive both.
        walk._held = [.. scope.DisposablesView];
        scope.Detach(walk._held);
        return walk;
    }

    /// <summary>x_0, without a graph, until it is released.</summary>
    public Tensor Sample => _sample ?? throw new ObjectDisposedException(nameof(DifferentiableSample));

    /// <summary>Frees this handle of the sample.</summary>
    public void ReleaseSample()
    {
        _sample?.Dispose();
        _sample = null;
    }

    /// <summary>Gradients of x_T and the declared inputs. Never throws: NaN instead, and <see cref="Failure"/>.</summary>
    /// <param name="cotangent">∂L/∂x_0.</param>
    public IReadOnlyList<Tensor> Back(Tensor cotangent)
    {
        try
        {
            _given = Walk(cotangent);
        }
        catch (Exception failure)
        {
            Failure = failure;
            _given = [.. _request.Field.Inputs.Select(input => input.Value).Prepend(_request.Noise).Select(tensor => empty_like(tensor).fill_(NaN).DetachFromDisposeScope())];
        }

        return _given;
    }

    public void Dispose()
    {
        _spent = true;
        ReleaseSample();
        foreach (var tensor in _held.Concat(_given))
            tensor.Dispose();
        (_held, _given) = ([], []);
        _solve.Dispose();
    }

    private IReadOnlyList<Tensor> Walk(Tensor cotangent)
    {
        if (is_grad_enabled())
            throw new NotSupportedException("Second derivatives of a sampler are not offered: call backward() without create_graph.");
        if (_spent)
            throw new InvalidOperationException("What the way back needs was used up or disposed. Sample again for another backward().");
        _spent = true;
        using var scope = NewDisposeScope();
        scope.Attach(_held);
        _held = [];
        _leaves.Borrow();
        Tensor noise;
        IEnumerable<Tensor>? inputs;
        try
        {
            _leaves.Arm();
            noise = _solve.Timed(SolvePhase.Backward, () => _sweep.Backward(cotangent)).detach();
            inputs = Solve.IsFinite(noise) && _leaves.FirstNonFinite() is null ? _leaves.Collect().Gradients.Values : null;
        }
        finally
        {
            _leaves.GiveBack();
        }

        if (inputs is null)
            throw FirstNonFinite(cotangent);
        return [noise.DetachFromDisposeScope(), .. inputs.Select(gradient => gradient.DetachFromDisposeScope())];
    }

    // Both ways once more, looking after every evaluation.
    private NonFiniteException FirstNonFinite(Tensor cotangent)
    {
        if (!Solve.IsFinite(cotangent))
            return new NonFiniteException("gradient of the loss with respect to the sample");
        try
        {
            Sampling.Differentiate(_request, x => x.mul(cotangent).sum(), _method, _cancellation).Dispose();
            return new NonFiniteException("gradient of the noise");
        }
        catch (NonFiniteException found)
        {
            return found;
        }
    }
}
