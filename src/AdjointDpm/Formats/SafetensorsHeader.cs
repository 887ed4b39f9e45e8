using System.Text.Json;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>One entry of a safetensors header: what a tensor is and where its bytes lie.</summary>
/// <param name="Name">Name of the tensor.</param>
/// <param name="Dtype">Element type as the file spells it, such as <c>F32</c>.</param>
/// <param name="Shape">Shape; empty for a single number.</param>
/// <param name="Begin">First byte, counted from the end of the header.</param>
/// <param name="End">One past the last byte, counted from the end of the header.</param>
internal sealed record SafetensorsEntry(string Name, string Dtype, long[] Shape, long Begin, long End);

/// <summary>The parsed and checked header of a safetensors file.</summary>
/// <remarks>Format: huggingface/safetensors README. Every rule is checked here, so that reading a tensor later is a plain copy.</remarks>
internal sealed class SafetensorsHeader
{
    public const long MaxLength = 100_000_000;
    private const string MetadataKey = "__metadata__";

    private static readonly Dictionary<string, (torch.ScalarType Type, int Size)> Dtypes = new()
    {
        ["F64"] = (torch.ScalarType.Float64, 8),
        ["F32"] = (torch.ScalarType.Float32, 4),
        ["F16"] = (torch.ScalarType.Float16, 2),
        ["BF16"] = (torch.ScalarType.BFloat16, 2),
        ["I64"] = (torch.ScalarType.Int64, 8),
        ["I32"] = (torch.ScalarType.Int32, 4),
        ["I16"] = (torch.ScalarType.Int16, 2),
        ["I8"] = (torch.ScalarType.Int8, 1),
        ["U8"] = (torch.ScalarType.Byte, 1),
        ["BOOL"] = (torch.ScalarType.Bool, 1),
        // libtorch's binding has no such types: they are read as float16, which holds each of their numbers, and not written.
        [Float8.E4M3] = (torch.ScalarType.Float16, 1),
        [Float8.E5M2] = (torch.ScalarType.Float16, 1),
    };

    private SafetensorsHeader(Dictionary<string, SafetensorsEntry> entries, Dictionary<string, string> metadata)
    {
        Entries = entries;
        Metadata = metadata;
    }

    public Dictionary<string, SafetensorsEntry> Entries { get; }

    public Dictionary<string, string> Metadata { get; }

    public static torch.ScalarType TypeOf(string dtype) => Dtypes[dtype].Type;

    /// <summary>How the format spells an element type; null when it has no spelling.</summary>
    public static string? Spell(torch.ScalarType type) => Dtypes.FirstOrDefault(d => d.Value.Type == type && !Float8.Is(d.Key)).Key;

    /// <summary>What people call an element type of a file: float32, float8_e4m3, ….</summary>
    public static string Called(string dtype) => Float8.Is(dtype) ? "float8" + dtype[2..].ToLowerInvariant() : TypeOf(dtype).ToString().ToLowerInvariant();

    public static int SizeOf(string dtype) => Dtypes[dtype].Size;

    /// <param name="file">Path, for messages.</param>
    /// <param name="json">The header's bytes.</param>
    /// <param name="dataLength">Bytes in the file after the header.</param>
    public static SafetensorsHeader Parse(string file, ReadOnlyMemory<byte> json, long dataLength)
    {
        if (json.Length == 0 || json.Span[0] != (byte)'{')
            throw new SafetensorsException(file, null, "the header does not begin with '{'. This is not a safetensors file; pickled checkpoints (.bin, .pt, .ckpt) are not read.");
        try
        {
            using var document = JsonDocument.Parse(json);
            var entries = new Dictionary<string, SafetensorsEntry>(StringComparer.Ordinal);
            Dictionary<string, string>? metadata = null;
            foreach (var property in document.RootElement.EnumerateObject())
            {
                if (property.Name == MetadataKey)
                {
                    if (metadata is not null)
                        throw Duplicate(file, MetadataKey);
                    metadata = ParseMetadata(file, property.Value);
                }
                else if (!entries.TryAdd(property.Name, ParseEntry(file, property)))
                {
                    throw Duplicate(file, property.Name);
                }
            }

            CheckLayout(file, entries.Values, dataLength);
            return new SafetensorsHeader(entries, metadata ?? []);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // The second is what a string of half a surrogate pair gives when it is read.
            throw new SafetensorsException(file, null, $"the header is not valid JSON ({e.Message}) The file is damaged: get it again.", e);
        }
    }

    private static SafetensorsException Duplicate(string file, string name) =>
        new(file, name, "is named twice in the header, so it is not clear which bytes are meant. Write the file again with unique names.");

    private static Dictionary<string, string> ParseMetadata(string file, JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Object)
            throw new SafetensorsException(file, null, $"{MetadataKey} must be an object of strings, but is {value.ValueKind}.");
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var item in value.EnumerateObject())
        {
            if (item.Value.ValueKind != JsonValueKind.String)
                throw new SafetensorsException(file, null, $"{MetadataKey} entry '{item.Name}' must be a string, but is {item.Value.ValueKind}.");
            if (!metadata.TryAdd(item.Name, item.Value.GetString()!))
                throw new SafetensorsException(file, null, $"{MetadataKey} entry '{item.Name}' is there twice.");
        }

        return metadata;
    }

    private static SafetensorsEntry ParseEntry(string file, JsonProperty property)
    {
        var name = property.Name;
        var value = property.Value;
        if (value.ValueKind != JsonValueKind.Object
            || !One(value, "dtype", out var dtype) || dtype.ValueKind != JsonValueKind.String
            || !One(value, "shape", out var shape) || shape.ValueKind != JsonValueKind.Array
            || !One(value, "data_offsets", out var offsets) || offsets.ValueKind != JsonValueKind.Array || offsets.GetArrayLength() != 2)
            throw new SafetensorsException(file, name, "needs one \"dtype\", one \"shape\" and two \"data_offsets\". The file is damaged: get it again.");

        var spelled = dtype.GetString()!;
        if (!Dtypes.TryGetValue(spelled, out var type))
            throw new SafetensorsException(file, name, $"has dtype {spelled}. Known are {string.Join(", ", Dtypes.Keys)}: convert the file to one of them.");

        var dimensions = shape.EnumerateArray().Select(d => Integer(file, name, d)).ToArray();
        var begin = Integer(file, name, offsets[0]);
        var end = Integer(file, name, offsets[1]);
        long bytes;
        try
        {
            // An empty tensor's other dimensions must be addressable too: torch multiplies them for its strides.
            bytes = dimensions.Aggregate((long)type.Size, (total, d) => checked(total * Math.Max(d, 1)));
            bytes = dimensions.Contains(0) ? 0 : bytes;
        }
        catch (OverflowException e)
        {
            throw new SafetensorsException(file, name, $"has shape [{string.Join(", ", dimensions)}], more than can be addressed. The file is damaged: get it again.", e);
        }

        if (end - begin != bytes)
            throw new SafetensorsException(file, name, $"of shape [{string.Join(", ", dimensions)}] and dtype {spelled} needs {bytes} bytes, but its offsets {begin}..{end} hold {end - begin}. The file is damaged: get it again.");
        return new SafetensorsEntry(name, spelled, dimensions, begin, end);
    }

    // Of two properties of one name readers would take different ones.
    private static bool One(JsonElement value, string name, out JsonElement found)
    {
        found = default;
        var count = 0;
        foreach (var property in value.EnumerateObject())
        {
            if (property.NameEquals(name))
                (found, count) = (property.Value, count + 1);
        }

        return count == 1;
    }

    private static long Integer(string file, string name, JsonElement value) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) && number >= 0
            ? number
            : throw new SafetensorsException(file, name, $"has {value.GetRawText()} where a whole number of zero or more belongs. The file is damaged: get it again.");

    // The format allows neither overlaps nor holes: bytes that belong to no tensor could hide anything.
    private static void CheckLayout(string file, IEnumerable<SafetensorsEntry> entries, long dataLength)
    {
        long at = 0;
        string? before = null;
        foreach (var entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin < at)
                throw new SafetensorsException(file, entry.Name, $"begins at byte {entry.Begin}, inside tensor '{before}', which ends at {at}. The file is damaged: get it again.");
            if (entry.Begin > at)
                throw new SafetensorsException(file, entry.Name, $"begins at byte {entry.Begin}, but the bytes before it end at {at}: the gap belongs to no tensor. The file is damaged: get it again.");
            if (entry.End > dataLength)
                throw new SafetensorsException(file, entry.Name, $"ends at byte {entry.End} of the data, but the file holds only {dataLength}. The file is cut short: get it again.");
            at = entry.End;
            before = entry.Name;
        }

        if (at != dataLength)
            throw new SafetensorsException(file, null, $"{dataLength - at} bytes at the end belong to no tensor. The file is damaged: get it again.");
    }
}
