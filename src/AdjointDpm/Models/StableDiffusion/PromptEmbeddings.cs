using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>What prompts become before they reach the diffusion network. Owns its tensors.</summary>
/// <param name="States">One state for each token, [B, N, D]: declare it to have the gradient of the prompt.</param>
/// <param name="Pooled">SDXL's one state for each prompt, [B, P]; null for Stable Diffusion 1 and 2.</param>
public sealed record PromptEmbeddings(Tensor States, Tensor? Pooled) : IDisposable
{
    /// <summary>Zeros of the same shapes: what SDXL was trained to see where there is no prompt.</summary>
    public PromptEmbeddings Zeros() => new(zeros_like(States).DetachFromDisposeScope(), Pooled is null ? null : zeros_like(Pooled).DetachFromDisposeScope());

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        States.Dispose();
        Pooled?.Dispose();
    }
}
