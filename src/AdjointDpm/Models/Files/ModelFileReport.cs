namespace AdjointDpm.Models.Files;

/// <summary>What a file or folder holds, from headers and configurations alone.</summary>
/// <param name="Path">What was looked at.</param>
/// <param name="Kind">Such as <c>LoRA</c>, <c>single-file checkpoint</c>, <c>diffusers folder</c>.</param>
/// <param name="Facts">What can be said of this kind, in the order in which people want to know it.</param>
/// <param name="Metadata">The strings of a file's header, or a picture's texts.</param>
/// <param name="Tensors">Every tensor; empty for folders and pictures.</param>
public sealed record ModelFileReport(string Path, string Kind, IReadOnlyList<KeyValuePair<string, string>> Facts, IReadOnlyDictionary<string, string> Metadata, IReadOnlyList<TensorReport> Tensors);

/// <summary>One tensor of a file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Dtype">Its element type as files spell it, such as F16.</param>
/// <param name="Shape">Its shape.</param>
public sealed record TensorReport(string Name, string Dtype, IReadOnlyList<long> Shape);
