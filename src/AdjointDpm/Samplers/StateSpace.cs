namespace AdjointDpm.Samplers;

/// <summary>The few operations on states that an adaptive solver needs.</summary>
/// <typeparam name="T">State and slope: a tensor, several, or plain numbers.</typeparam>
internal abstract class StateSpace<T>
    where T : class
{
    /// <summary>y + Σ weights_i vectors_i, a new value.</summary>
    public abstract T Combine(T y, ReadOnlySpan<double> weights, ReadOnlySpan<T> vectors);

    /// <summary>Root mean square of Σ weights_i vectors_i / (absolute + relative · max(|before|, |after|)): one read by the host. NaN if anything is not finite.</summary>
    public abstract double Norm(ReadOnlySpan<double> weights, ReadOnlySpan<T> vectors, T before, T after, StepControl control);

    /// <summary>A value is no longer needed.</summary>
    public virtual void Free(T value)
    {
    }

    /// <summary>A stage of the step under way was evaluated.</summary>
    /// <param name="slope">Its slope.</param>
    /// <param name="weight">Its weight in the result, step size included.</param>
    /// <param name="error">Its weight in the error estimate, step size included.</param>
    /// <param name="reused">Whether the slope is also the first one of the next step, or of the next attempt.</param>
    public virtual void Absorb(T slope, double weight, double error, bool reused)
    {
    }

    /// <summary>The step under way was accepted, or is to be forgotten.</summary>
    public virtual void Settle(bool accepted)
    {
    }
}
