namespace AdjointDpm.Models;

/// <summary>A model's configuration file or folder is missing, malformed, or asks for something that is not supported. The message says which field, its value and what to do.</summary>
public sealed class ModelConfigException : FormatException
{
    /// <summary>Creates the exception.</summary>
    public ModelConfigException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with its cause.</summary>
    public ModelConfigException(string message, Exception? inner)
        : base(message, inner)
    {
    }
}
