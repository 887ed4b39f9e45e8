using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models;

/// <summary>The layers that hold nearly all of a network's numbers, made with random weights or, where weights are about to be read, without memory for them.</summary>
/// <remarks>Random numbers for a network of 860 million parameters take longer than reading it, and twice its file's memory when that is in half precision.</remarks>
internal static class Layers
{
    // The default device and dtype of TorchSharp belong to the whole process; other threads make tensors meanwhile.
    [ThreadStatic]
    private static ScalarType? _blank;

    /// <summary>Builds a network whose large weights have names, shapes and a dtype but no memory, on this thread.</summary>
    /// <param name="dtype">Dtype they are to have; all else is converted to it.</param>
    /// <param name="make">Makes the network.</param>
    public static T Blank<T>(ScalarType dtype, Func<T> make)
        where T : nn.Module
    {
        var before = _blank;
        _blank = dtype;
        try
        {
            return make();
        }
        finally
        {
            _blank = before;
        }
    }

    public static Linear Linear(long inputs, long outputs, bool hasBias = true) =>
        _blank is { } dtype ? nn.Linear(inputs, outputs, hasBias, META, dtype) : nn.Linear(inputs, outputs, hasBias);

    public static Conv2d Conv2d(long inputs, long outputs, long kernel, long stride = 1, long padding = 0, bool bias = true) =>
        _blank is { } dtype ? nn.Conv2d(inputs, outputs, kernel, stride, padding, bias: bias, device: META, dtype: dtype) : nn.Conv2d(inputs, outputs, kernel, stride, padding, bias: bias);

    public static Embedding Embedding(long count, long width) =>
        _blank is { } dtype ? nn.Embedding(count, width, device: META, dtype: dtype) : nn.Embedding(count, width);

    /// <summary>A network that was loaded to be used as it is: no dropout, no gradients of its own.</summary>
    public static T Constant<T>(T network)
        where T : nn.Module
    {
        network.eval();
        foreach (var parameter in network.parameters())
            parameter.requires_grad = false;
        return network;
    }

    /// <summary>The network's modules by their paths, for <see cref="Set"/>.</summary>
    public static Dictionary<string, nn.Module> ByPath(nn.Module network) => network.named_modules().ToDictionary(m => m.name, m => m.module, StringComparer.Ordinal);

    /// <summary>Gives a network's weight its values: copied into its memory, or taken as its memory where it has none.</summary>
    /// <param name="modules">From <see cref="ByPath"/>.</param>
    /// <param name="name">Name of the weight.</param>
    /// <param name="target">The weight.</param>
    /// <param name="value">Values of its shape, never to be changed again.</param>
    public static void Set(Dictionary<string, nn.Module> modules, string name, Tensor target, Tensor value)
    {
        if (target.device_type != DeviceType.META)
        {
            target.copy_(value);
            return;
        }

        var dot = name.LastIndexOf('.');
        var parameter = new Parameter(value.dtype == target.dtype ? value.detach() : value.to(target.dtype), target.requires_grad);
        parameter.DetachFromDisposeScope();
        var isWeight = name.AsSpan(dot + 1).SequenceEqual("weight");
        switch (modules[name[..dot]])
        {
            case Linear linear when isWeight: linear.weight = parameter; break;
            case Linear linear: linear.bias = parameter; break;
            case Conv2d conv when isWeight: conv.weight = parameter; break;
            case Conv2d conv: conv.bias = parameter; break;
            case Embedding table: table.weight = parameter; break;
            default: throw new InvalidOperationException($"{name} was made without memory, but is no weight of a layer that can be.");
        }
    }
}
