namespace AdjointDpm.Grains.Specs;

/// <summary>What a path in a spec must lead to.</summary>
public enum ExistingPathKind
{
    /// <summary>A folder.</summary>
    Folder,

    /// <summary>A file.</summary>
    File,

    /// <summary>A folder, a file, or a model in the Hugging Face cache by its name, which becomes its folder.</summary>
    Model,
}

/// <summary>Marks a text as a path: relative to the spec file when written, absolute in canonical JSON, and there when the spec is read.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ExistingPathAttribute(ExistingPathKind kind) : Attribute
{
    /// <summary>What the path must lead to.</summary>
    public ExistingPathKind Kind { get; } = kind;
}

/// <summary>Marks a list of texts whose items may be written as lists; those are kept as JSON text.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class NestedAsTextAttribute : Attribute;
