using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Finds the layer of a network in which a NaN or infinity comes up first.</summary>
internal static class NonFiniteLayer
{
    /// <summary>Evaluates once more and looks at what goes into and comes out of every layer that has none inside it.</summary>
    /// <param name="networks">Networks that the evaluation may call, by the prefix of their names.</param>
    /// <param name="evaluate">The evaluation whose outcome is not finite.</param>
    /// <returns>The layer's name; "before" it, where what it is given is not finite already; null where no layer's output is to blame.</returns>
    public static string? Find(IEnumerable<(string Prefix, nn.Module Network)> networks, Func<Tensor> evaluate)
    {
        string? first = null;
        var hooks = new List<Action>();
        foreach (var (prefix, network) in networks)
        {
            foreach (var (name, module) in network.named_modules())
            {
                if (module is not nn.Module<Tensor, Tensor> layer || layer.named_children().Any())
                    continue;
                var hook = layer.register_forward_hook((_, input, output) =>
                {
                    if (first is null && output.is_floating_point() && !Solve.IsFinite(output))
                        first = input.is_floating_point() && !Solve.IsFinite(input) ? $"before {prefix}.{name}" : $"{prefix}.{name}";
                    return output;
                });
                hooks.Add(hook.remove);
            }
        }

        try
        {
            using var scope = NewDisposeScope();
            using var frozen = no_grad();
            evaluate();
            return first;
        }
        finally
        {
            foreach (var remove in hooks)
                remove();
        }
    }
}
