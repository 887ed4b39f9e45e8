using TorchSharp;

namespace AdjointDpm.Models.Unet;

/// <summary>The activation functions that diffusers configurations name in <c>act_fn</c>.</summary>
internal static class Activation
{
    public static Func<torch.Tensor, torch.Tensor> Named(string name) => name switch
    {
        "silu" or "swish" => x => torch.nn.functional.silu(x),
        "mish" => x => torch.nn.functional.mish(x),
        "gelu" => x => torch.nn.functional.gelu(x),
        "relu" => x => torch.nn.functional.relu(x),
        _ => throw new ModelConfigException($"act_fn '{name}' is not known. Known: silu, swish, mish, gelu, relu."),
    };
}
