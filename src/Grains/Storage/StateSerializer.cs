using System.Text.Json;
using Orleans.Storage;

namespace AdjointDpm.Grains.Storage;

/// <summary>Grain state as plain JSON, without type names in the data: renaming a type does not break what is stored.</summary>
internal sealed class StateSerializer : IGrainStorageSerializer
{
    public BinaryData Serialize<T>(T? input) => new(JsonSerializer.SerializeToUtf8Bytes(input, FileGrainStorage.Json));

    public T? Deserialize<T>(BinaryData input) => JsonSerializer.Deserialize<T>(input.ToMemory().Span, FileGrainStorage.Json)
        ?? throw new InvalidDataException($"The stored state of type {typeof(T).Name} is null.");
}
