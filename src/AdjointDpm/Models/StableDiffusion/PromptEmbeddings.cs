using AdjointDpm.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>What prompts become before they reach the diffusion network. Owns its tensors.</summary>
/// <param name="States">One state for each token, [B, N, D]: declare it to have the gradient of the prompt.</param>
/// <param name="Pooled">SDXL's one state for each prompt, [B, P]; null for Stable Diffusion 1 and 2.</param>
public sealed record PromptEmbeddings(Tensor States, Tensor? Pooled) : IDisposable
{
    private const string StatesName = "prompt_embeds", PooledName = "pooled_prompt_embeds";

    /// <summary>Zeros of the same shapes: what SDXL was trained to see where there is no prompt.</summary>
    public PromptEmbeddings Zeros() => new(zeros_like(States).DetachFromDisposeScope(), Pooled is null ? null : zeros_like(Pooled).DetachFromDisposeScope());

    /// <summary>Writes a file whose tensors have the names of the pipelines' arguments: <c>prompt_embeds</c> and, for SDXL, <c>pooled_prompt_embeds</c>.</summary>
    /// <param name="path">The file.</param>
    /// <param name="metadata">Strings for the header. Default: none.</param>
    public void Write(string path, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var tensors = new Dictionary<string, Tensor> { [StatesName] = States };
        if (Pooled is not null)
            tensors[PooledName] = Pooled;
        SafetensorsWriter.WriteForTorch(path, tensors, metadata);
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="SafetensorsException">The file holds something else, or shapes that belong to no prompt.</exception>
    public static PromptEmbeddings Read(string path)
    {
        using var file = SafetensorsFile.Open(path);
        if (!file.Contains(StatesName) || file.Names.Any(n => n is not (StatesName or PooledName)))
            throw new SafetensorsException(path, null, $"holds {string.Join(", ", file.Names.Take(3))}; embeddings of prompts are {StatesName} and, for SDXL, {PooledName}.");
        var (states, pooled) = (file.Shape(StatesName), file.Contains(PooledName) ? file.Shape(PooledName) : null);
        if (states.Count != 3 || (pooled is not null && (pooled.Count != 2 || pooled[0] != states[0])))
            throw new SafetensorsException(path, StatesName, $"has shape [{string.Join(", ", states)}]{(pooled is null ? "" : $" and {PooledName} [{string.Join(", ", pooled)}]")}; they are [prompts, tokens, width] and [prompts, width].");
        return new(file.Read(StatesName).DetachFromDisposeScope(), pooled is null ? null : file.Read(PooledName).DetachFromDisposeScope());
    }

    /// <summary>Those of one prompt, in the current dtype and on the device of a network. Owned by the caller.</summary>
    /// <param name="index">Which, from 0.</param>
    /// <param name="network">The network that is to see them.</param>
    public PromptEmbeddings Row(int index, nn.Module network)
    {
        var weight = network.parameters().First();
        return new(Of(States), Pooled is null ? null : Of(Pooled));

        Tensor Of(Tensor all)
        {
            using var scope = NewDisposeScope();
            return all.narrow(0, index, 1).to(weight.dtype, weight.device).clone().DetachFromDisposeScope();
        }
    }

    /// <exception cref="SafetensorsException">They were made for another model.</exception>
    /// <param name="path">The file that they came from, for the message.</param>
    /// <param name="model">The model that is to draw them.</param>
    public void ThrowIfUnfit(string path, StableDiffusionModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        var (width, pooled) = (model.Unet.Config.CrossAttentionDim.Values[0], model.IsXl ? model.TextEncoders[^1].Config.ProjectionDim : (int?)null);
        if (States.shape[2] != width)
            throw new SafetensorsException(path, StatesName, $"is {States.shape[2]} wide, but this model takes {width}. It was made for another model.");
        if ((int?)Pooled?.shape[1] != pooled)
            throw new SafetensorsException(path, PooledName, pooled is null ? "belongs to Stable Diffusion XL, and this model is none." : $"is {(Pooled is null ? "not there" : $"{Pooled.shape[1]} wide")}; this model (XL) needs {pooled} numbers for each prompt.");
    }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        States.Dispose();
        Pooled?.Dispose();
    }
}
