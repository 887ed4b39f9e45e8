namespace AdjointDpm.Formats;

/// <summary>A safetensors file, or its fit to a network, is not what it should be. The message names the file, the tensor where there is one, what is wrong and what to do.</summary>
public sealed class SafetensorsException : FormatException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="file">Path of the file.</param>
    /// <param name="tensor">Name of the tensor at fault; null when the file as a whole is.</param>
    /// <param name="message">What is wrong and what to do, without file and tensor, which are put before it.</param>
    /// <param name="inner">Cause, where there is one.</param>
    public SafetensorsException(string file, string? tensor, string message, Exception? inner = null)
        : base(tensor is null ? $"{file}: {message}" : $"{file}: tensor '{tensor}': {message}", inner)
    {
        File = file;
        Tensor = tensor;
    }

    /// <summary>Path of the file.</summary>
    public string File { get; }

    /// <summary>Name of the tensor at fault, or null when the file as a whole is.</summary>
    public string? Tensor { get; }
}
