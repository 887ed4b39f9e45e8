namespace AdjointDpm.Samplers;

/// <summary>Samplers as the code published with AdjointDPM runs them, faults included: for reproducing its results and for measuring what the faults cost. Not among <see cref="Sampler.Known"/>.</summary>
public static class OfficialCode
{
    /// <summary>torchdiffeq's explicit_adams, the default of the published image attack: two steps of the 3/8 rule, then Adams–Bashforth with textbook weights for equal steps and ever more noises.</summary>
    /// <param name="mostNoises">Most noises combined, from 3 to 11. Default: 11, torchdiffeq's.</param>
    /// <remarks>On grids whose steps in rho differ, the weights (up to 133 for 11 noises) are wrong and the method diverges. <see cref="Sampler.Adams4"/> has the right ones.</remarks>
    public static Sampler ExplicitAdams(int mostNoises = 11) => mostNoises is >= 3 and <= 11
        ? new AdamsBashforth($"official-adams{mostNoises}", mostNoises, ButcherTableau.ThreeEighths, startSteps: 2, assumesEqualSteps: true)
        : throw new ArgumentOutOfRangeException(nameof(mostNoises), mostNoises, $"explicit_adams combines 3 to 11 noises, not {mostNoises}.");

    /// <summary>A Runge–Kutta method whose stages look time and scale up at the nearest grid point, as the published Stable Diffusion sampler does, on the way back too.</summary>
    /// <param name="tableau">The method.</param>
    /// <remarks>Right for Euler's method only; others fall to order 1 or 2.</remarks>
    public static Sampler Snapped(ButcherTableau tableau)
    {
        ArgumentNullException.ThrowIfNull(tableau);
        return new RungeKutta($"official-{tableau.Name}", tableau, Coordinates.Rho.Snapped());
    }
}
