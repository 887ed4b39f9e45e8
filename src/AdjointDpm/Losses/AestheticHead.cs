using AdjointDpm.Formats;
using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>An aesthetic score as LAION's: a linear function v · ê + b of the CLIP embedding ê of unit length.</summary>
/// <remarks>
/// LAION's "improved aesthetic predictor" (Schuhmann 2022) has five linear layers with nothing between them (dropout only, which does nothing outside training), so it is one vector and one number; that of
/// <c>sac+logos+ava1-l14-linearMSE</c> for ViT-L/14 has ‖v‖ ≈ 18.0 and b ≈ 5.24. A predictor trained with ReLUs between its layers has weights of the same names, and would be read wrongly: the file cannot tell.
/// </remarks>
public sealed class AestheticHead : IDisposable
{
    private readonly Tensor _vector;
    private readonly Scalar _bias;

    private AestheticHead(Tensor vector, double bias) => (_vector, _bias, Width, Bias) = (vector, bias, vector.shape[0], bias);

    /// <summary>Width of the embeddings that it scores.</summary>
    public long Width { get; }

    /// <summary>Score of a blank embedding, b.</summary>
    public double Bias { get; }

    /// <summary>Makes a head of its numbers.</summary>
    /// <param name="vector">v, [width]; copied.</param>
    /// <param name="bias">b.</param>
    /// <exception cref="ArgumentException">v is no vector.</exception>
    public static AestheticHead Of(Tensor vector, double bias)
    {
        if (vector.dim() != 1)
            throw new ArgumentException($"The vector has shape [{string.Join(", ", vector.shape)}]; give [width].", nameof(vector));
        return new(vector.detach().to(ScalarType.Float64).clone().DetachFromDisposeScope(), bias);
    }

    /// <summary>Reads a safetensors file: <c>weight</c> ([width] or [1, width]) and <c>bias</c> (one number, 0 when missing); or LAION's own names, <c>layers.N.weight</c> and <c>layers.N.bias</c>, which are multiplied out in float64.</summary>
    /// <exception cref="SafetensorsException">The file is missing or malformed, or its tensors are no such head.</exception>
    public static AestheticHead Load(string path)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        using var file = SafetensorsFile.Open(path);
        int[] layers = [.. file.Names.Select(n => n.Split('.')).Where(p => p is ["layers", _, "weight"] && int.TryParse(p[1], out _)).Select(p => int.Parse(p[1], System.Globalization.CultureInfo.InvariantCulture)).Order()];
        string[] names = layers.Length > 0 ? [.. layers.Select(i => $"layers.{i}.")] : [""];
        Tensor? matrix = null, offset = null;
        foreach (var name in names)
        {
            var weight = file.Read(name + "weight").to(ScalarType.Float64);
            weight = weight.dim() == 1 ? weight.unsqueeze(0) : weight;
            var bias = file.Contains(name + "bias") ? file.Read(name + "bias").to(ScalarType.Float64).reshape(-1) : zeros(weight.shape[0], dtype: ScalarType.Float64);
            if (weight.dim() != 2 || bias.shape[0] != weight.shape[0] || (matrix is not null && weight.shape[1] != matrix.shape[0]))
                throw new SafetensorsException(path, name + "weight", $"has shape [{string.Join(", ", file.Shape(name + "weight"))}], which does not fit its bias of {bias.shape[0]} or the layer before it.");
            offset = offset is null ? bias : weight.mv(offset).Plus(bias);
            matrix = matrix is null ? weight : weight.mm(matrix);
        }

        return matrix!.shape[0] == 1
            ? Of(matrix.reshape(-1), offset!.reshape([]).Number())
            : throw new SafetensorsException(path, names[^1] + "weight", $"gives {matrix.shape[0]} numbers, but a score is one.");
    }

    /// <summary>Scores [B] of embeddings of unit length [B, width], of their dtype, in the current dispose scope.</summary>
    /// <exception cref="ArgumentException">The embeddings have another width.</exception>
    public Tensor Score(Tensor embeddings)
    {
        if (embeddings.shape[^1] != Width)
            throw new ArgumentException($"The embeddings have width {embeddings.shape[^1]}, the head is for {Width}. Use the CLIP that it was trained with.", nameof(embeddings));
        using var scope = NewDisposeScope();
        var scores = embeddings.mul(_vector.to(embeddings.dtype, embeddings.device)).sum([-1]).Plus(_bias).MoveToOuterDisposeScope();
        GC.KeepAlive(this);
        return scores;
    }

    /// <summary>Frees the vector.</summary>
    public void Dispose() => _vector.Dispose();
}
