using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Gradients;

/// <summary>A step y' = OfState y + OfPrediction m(Scale y) + OfDraw xi: what adjoint matching needs of a plan.</summary>
/// <param name="At">Where the network is evaluated.</param>
/// <param name="As">What it predicts.</param>
/// <param name="Scale">x over y there.</param>
/// <param name="OfState">Weight of the state.</param>
/// <param name="OfPrediction">Weight of the prediction.</param>
/// <param name="OfDraw">Weight of the draw; 0 where the step cannot be controlled.</param>
internal readonly record struct ControlledStep(GridPoint At, Prediction As, double Scale, double OfState, double OfPrediction, double OfDraw)
{
    /// <summary>Reads a plan.</summary>
    /// <exception cref="NotSupportedException">The step has history, several evaluations or several draws.</exception>
    public static ControlledStep Of(StepPlan plan, Sampler sampler)
    {
        if (plan is not { Evaluations: [{ Y: [{ Source: TermSource.Slot, Index: 0 }] } evaluation], Next: [var next], Draws: <= 1 })
            throw new NotSupportedException($"Adjoint matching controls steps of one evaluation and one draw, and steps of sampler '{sampler.Name}' have more, or history. Use {Sampler.Ddpm}, {Sampler.StochasticDpmSolver1} or {Sampler.EulerMaruyama}.");
        return new(evaluation.At, evaluation.As, evaluation.Scale * evaluation.Y[0].Weight, Weight(TermSource.Slot), Weight(TermSource.Evaluation), Weight(TermSource.Draw));

        double Weight(TermSource source) => next.Where(t => t.Source == source).Sum(t => t.Weight);
    }
}
