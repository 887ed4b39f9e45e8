using AdjointDpm.Formats;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>AdamW (Loshchilov and Hutter, 2019) whose whole state goes into one safetensors file, so that a run can go on with equal bits.</summary>
internal sealed class AdamW(IReadOnlyDictionary<string, Parameter> parameters, double decay) : IDisposable
{
    private const double Beta1 = 0.9;
    private const double Beta2 = 0.999;
    private const double MaxNorm = 1;
    private static readonly Scalar Keep1 = Beta1, Take1 = 1 - Beta1, Keep2 = Beta2, Take2 = 1 - Beta2, One = 1.0;

    // As a tensor: adding a scalar makes a temporary one, which the collector may free under the native call.
    private static readonly Tensor Eps = tensor(1e-8f).DetachFromDisposeScope();
    private readonly Dictionary<string, Tensor> _first = parameters.ToDictionary(p => p.Key, p => zeros_like(p.Value).DetachFromDisposeScope());
    private readonly Dictionary<string, Tensor> _second = parameters.ToDictionary(p => p.Key, p => zeros_like(p.Value).DetachFromDisposeScope());

    /// <summary>Takes one step along the gradient, shortened to norm one where it is longer, and clears it.</summary>
    /// <param name="iteration">Iterations before this one.</param>
    /// <param name="rate">Learning rate of this one.</param>
    public void Step(int iteration, double rate)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var norm = Math.Sqrt(parameters.Values.Sum(p => p.grad!.mul(p.grad!).sum().ToDouble()));
        Scalar clip = Math.Min(1, MaxNorm / norm), shrink = 1 - rate * decay, size = -rate / (1 - Math.Pow(Beta1, iteration + 1)), correction = 1 / Math.Sqrt(1 - Math.Pow(Beta2, iteration + 1));
        foreach (var (name, parameter) in parameters)
        {
            var gradient = parameter.grad!.mul_(clip);
            var (m, v) = (_first[name], _second[name]);
            m.mul_(Keep1).add_(gradient, Take1);
            v.mul_(Keep2).addcmul_(gradient, gradient, Take2);
            parameter.mul_(shrink).addcdiv_(m, v.sqrt().mul_(correction).add_(Eps, One), size);
            gradient.zero_();
        }

        GC.KeepAlive((clip, shrink, size, correction));
    }

    public void Save(string path) =>
        SafetensorsWriter.Write(path, _first.Select(p => (Name: "first." + p.Key, p.Value)).Concat(_second.Select(p => (Name: "second." + p.Key, p.Value))).ToDictionary(p => p.Name, p => p.Value));

    public void Load(string path)
    {
        using var file = SafetensorsFile.Open(path);
        foreach (var (prefix, moments) in new[] { ("first.", _first), ("second.", _second) })
        {
            foreach (var (name, moment) in moments)
            {
                using var stored = file.Read(prefix + name);
                moment.copy_(stored);
            }
        }
    }

    public void Dispose()
    {
        foreach (var tensor in _first.Values.Concat(_second.Values))
            tensor.Dispose();
    }
}
