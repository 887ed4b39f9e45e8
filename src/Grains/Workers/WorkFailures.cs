using System.Runtime.InteropServices;
using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Models;

namespace AdjointDpm.Grains.Workers;

/// <summary>Tells errors that every attempt would meet again from those that another worker may not.</summary>
internal static class WorkFailures
{
    public static WorkFailure Of(Exception error) => error switch
    {
        TensorTransferException => new(false, error.Message),
        // Another silo may have the right settings, or a connection.
        ArtifactException => new(false, error.Message),
        // The computation is a function of spec and parameters: what it cannot do once it cannot do at all.
        NonFiniteException or UndeclaredInputException => new(true, error.Message),
        SpecException or ModelConfigException or SafetensorsException => new(true, error.Message),
        FileNotFoundException or DirectoryNotFoundException or InvalidDataException or EndOfStreamException => new(true, error.Message),
        ArgumentException or NotSupportedException or InvalidOperationException or JsonException or FormatException or ArithmeticException => new(true, error.Message),
        // libtorch's own errors: memory that ran out on one device may be there on another.
        ExternalException => new(false, $"libtorch: {FirstLine(error.Message)}"),
        OutOfMemoryException => new(false, "This worker ran out of memory."),
        _ => new(false, $"{error.GetType().Name}: {FirstLine(error.Message)}"),
    };

    private static string FirstLine(string text) => text.Split('\n', 2)[0];
}

/// <summary>A trial cannot go on: its work fails in the same way wherever it is done, or has failed too often.</summary>
internal sealed class WorkFailedException(string message) : Exception(message);
