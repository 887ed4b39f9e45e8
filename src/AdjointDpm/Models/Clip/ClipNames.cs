namespace AdjointDpm.Models.Clip;

/// <summary>The names of tensors in files of text encoders.</summary>
internal static class ClipNames
{
    /// <summary>The network's name of a tensor; null for one that is passed over.</summary>
    /// <remarks>Old releases of transformers stored the row 0, 1, 2, … of positions as a tensor.</remarks>
    public static string? Current(string name) => name.EndsWith("embeddings.position_ids", StringComparison.Ordinal) ? null : name;
}
