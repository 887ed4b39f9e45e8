using System.Buffers;
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
        // Memory that ran out here may be there elsewhere; coordinators ask for less of it.
        _ when IsOutOfMemory(error) => new(false, $"It ran out of memory: {FirstLine(error.Message)}", OutOfMemory: true),
        // The computation is a function of spec and parameters: what it cannot do once it cannot do at all.
        NonFiniteException => new(true, error.Message, NonFinite: true),
        UndeclaredInputException => new(true, error.Message),
        SpecException or ModelConfigException or SafetensorsException => new(true, error.Message),
        FileNotFoundException or DirectoryNotFoundException or InvalidDataException or EndOfStreamException => new(true, error.Message),
        ArgumentException or NotSupportedException or InvalidOperationException or JsonException or FormatException or ArithmeticException => new(true, error.Message),
        // libtorch's own errors.
        ExternalException => new(false, $"libtorch: {FirstLine(error.Message)}"),
        _ => new(false, $"{error.GetType().Name}: {FirstLine(error.Message)}"),
    };

    /// <summary>libtorch has no type for it in .NET: the words of its allocators, of the processor's and of CUDA's, of CUDA's libraries (cuBLAS, cuDNN, cuSOLVER, cuFFT), and of the system.</summary>
    private static readonly SearchValues<string> OutOfMemory = SearchValues.Create(
        ["out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "std::bad_alloc", "_ALLOC_FAILED", "_ALLOCATION_FAILED", "cudaErrorMemoryAllocation"],
        StringComparison.OrdinalIgnoreCase);

    public static bool IsOutOfMemory(Exception error) => error is OutOfMemoryException || (error is ExternalException or IOException && error.Message.AsSpan().ContainsAny(OutOfMemory));

    private static string FirstLine(string text) => text.Split('\n', 2)[0];
}

/// <summary>A trial cannot go on: its work fails in the same way wherever it is done, or has failed too often.</summary>
internal sealed class WorkFailedException(string message) : Exception(message);

/// <summary>A worker had no room for a shard, or seems to have had none: less must be asked of it at once.</summary>
/// <param name="message">All that is known.</param>
/// <param name="reason">One sentence of it for people.</param>
internal sealed class WorkerMemoryException(string message, string reason) : Exception(message)
{
    public string Reason => reason;
}

/// <summary>Only workers are left that give other last bits than those before them.</summary>
/// <param name="kind">Which these give.</param>
/// <param name="message">One sentence for people.</param>
internal sealed class UnlikeWorkersException(string kind, string message) : Exception(message)
{
    public string Kind => kind;
}
