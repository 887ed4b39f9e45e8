namespace AdjointDpm.Losses;

/// <summary>A reward gives scores but no gradient with respect to the picture, so there is nothing to follow. The message names what can be done.</summary>
public sealed class NoGradientException : InvalidOperationException
{
    internal const string Alternatives = "Write it with differentiable operations: as a C# class derived from SampleLoss, as a TorchScript file whose forward neither detaches nor rounds nor takes an argmax, or as a sidecar that returns gradients of its own.";

    /// <summary>Creates the exception.</summary>
    /// <param name="what">What was found, a sentence.</param>
    public NoGradientException(string what)
        : base($"{what} {Alternatives}")
    {
    }
}
