using static TorchSharp.torch;

namespace AdjointDpm.Silo.Tools;

/// <summary>Dtypes of weights as requests name them.</summary>
internal static class DtypeNames
{
    /// <exception cref="ArgumentException">The name is none.</exception>
    public static ScalarType? Read(string? name) => name switch
    {
        null => null,
        "float32" => ScalarType.Float32,
        "float16" => ScalarType.Float16,
        "bfloat16" => ScalarType.BFloat16,
        var other => throw new ArgumentException($"'{other}' is no dtype of weights here. Choose float32, float16 or bfloat16."),
    };
}
