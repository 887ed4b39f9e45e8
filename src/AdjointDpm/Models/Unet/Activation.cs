using TorchSharp;

namespace AdjointDpm.Models.Unet;

/// <summary>The activation functions that configurations of diffusers and transformers name.</summary>
internal static class Activation
{
    private static readonly Scalar QuickSlope = 1.702;

    /// <summary>What diffusers has in places that do not follow a configuration's <c>act_fn</c>.</summary>
    public const string Fixed = "silu";

    public static Func<torch.Tensor, torch.Tensor> Named(string name, string field = "act_fn") => name switch
    {
        "silu" or "swish" => x => torch.nn.functional.silu(x),
        "mish" => x => torch.nn.functional.mish(x),
        "gelu" => x => torch.nn.functional.gelu(x),
        "relu" => x => torch.nn.functional.relu(x),
        "quick_gelu" => QuickGelu,
        _ => throw new ModelConfigException($"{field} '{name}' is not known. Known: silu, swish, mish, gelu, quick_gelu, relu."),
    };

    // x σ(1.702 x): OpenAI's CLIP was trained with this, OpenCLIP with the exact one.
    private static torch.Tensor QuickGelu(torch.Tensor x)
    {
        using var scope = torch.NewDisposeScope();
        return x.mul(x.mul(QuickSlope).sigmoid()).MoveToOuterDisposeScope();
    }
}
