using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Orleans.Storage;

namespace AdjointDpm.Grains.Storage;

/// <summary>Grain state as plain JSON, without type names in the data: renaming a type does not break what is stored.</summary>
/// <remarks>
/// The first member is the schema's number. A member more or less leaves it as it is: what is missing has its default, what is not
/// known is passed over. A change that older silos would misread, such as another meaning or a new name in an enumeration that is
/// stored, adds one to it; then they refuse instead. State without a number is from before there was one.
/// </remarks>
internal sealed class StateSerializer : IGrainStorageSerializer
{
    /// <summary>Schema that is written; all up to it are read.</summary>
    public const int Schema = 1;

    private static readonly byte[] Head = Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{{\"$schema\":{Schema}"));

    public BinaryData Serialize<T>(T? input)
    {
        var buffer = new ArrayBufferWriter<byte>();
        Write(buffer, input);
        return new(buffer.WrittenMemory);
    }

    public T? Deserialize<T>(BinaryData input) => Read<T>(input.ToMemory().Span, typeof(T).Name);

    /// <summary>Writes a state.</summary>
    public static void Write<T>(IBufferWriter<byte> to, T? state)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(state, FileGrainStorage.Json);
        if (json.Length < 2 || json[0] != (byte)'{')
        {
            to.Write(json);
            return;
        }
        to.Write(Head);
        if (json[1] != (byte)'}')
            to.Write(","u8);
        to.Write(json.AsSpan(1));
    }

    /// <summary>Reads a state.</summary>
    /// <param name="json">Its bytes.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <exception cref="InvalidDataException">A newer version wrote it, or it is none.</exception>
    public static T Read<T>(ReadOnlySpan<byte> json, string name)
    {
        var schema = SchemaOf(json);
        if (schema > Schema)
            throw new InvalidDataException($"The state '{name}' has schema {schema}, but this silo reads up to {Schema}: a newer version of AdjointDpm wrote it. Run that version, or restore a backup from before it.");
        try
        {
            return JsonSerializer.Deserialize<T>(json, FileGrainStorage.Json) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The state '{name}' cannot be read: {e.Message} Restore it from a backup.", e);
        }
    }

    private static int SchemaOf(ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json);
        try
        {
            return reader.Read() && reader.TokenType == JsonTokenType.StartObject && reader.Read() && reader.TokenType == JsonTokenType.PropertyName && reader.ValueTextEquals("$schema"u8)
                && reader.Read() && reader.TokenType == JsonTokenType.Number && reader.TryGetInt32(out var schema) ? schema : 0;
        }
        catch (JsonException)
        {
            // Said with its place by whoever reads it all.
            return 0;
        }
    }
}
