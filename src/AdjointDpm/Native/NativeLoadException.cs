namespace AdjointDpm.Native;

/// <summary>The native libraries could not be loaded; the message says in one sentence what is missing and what to do.</summary>
public sealed class NativeLoadException : Exception
{
    /// <summary>Creates the exception.</summary>
    public NativeLoadException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with its cause.</summary>
    public NativeLoadException(string message, Exception? inner)
        : base(message, inner)
    {
    }
}
