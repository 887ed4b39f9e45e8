namespace AdjointDpm.Client.CommandLine;

/// <summary>What the shell is told. Part of the interface: scripts rely on it.</summary>
internal static class ExitCodes
{
    public const int Ok = 0;

    /// <summary>The experiment failed or was cancelled, or the command could not do what was asked.</summary>
    public const int Failed = 1;

    /// <summary>The spec does not hold, or the command line was wrong.</summary>
    public const int Invalid = 2;

    /// <summary>No cluster answered.</summary>
    public const int Unreachable = 3;

    /// <summary>The gradient is not what its method claims, or worse than the spec accepts; a loss is not fit for gradients.</summary>
    public const int NotProven = 4;

    /// <summary>Ctrl-C or SIGTERM.</summary>
    public const int Interrupted = 130;
}

/// <summary>Ends a command with a message for people and a code for scripts.</summary>
internal sealed class CommandFailure(int exitCode, string message, string? advice = null, Exception? inner = null) : Exception(message, inner)
{
    public int ExitCode { get; } = exitCode;

    /// <summary>What to do about it.</summary>
    public string? Advice { get; } = advice;
}
