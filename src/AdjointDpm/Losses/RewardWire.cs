using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using AdjointDpm.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>What a reward in another process is asked and answers: bodies of safetensors, so that any language with a JSON reader can serve it.</summary>
/// <remarks>Request: <c>images</c>, F32 [B, C, H, W]. Answer: <c>score</c>, F32 [B], and, where gradients were asked for, <c>gradient</c>, F32 of the images' shape, ∂score_i/∂image_i. F64 is taken in answers, too. Anything else in the answer is passed over.</remarks>
public static class RewardWire
{
    /// <summary>Name of the pictures in a request.</summary>
    public const string Images = "images";

    /// <summary>Name of the scores in an answer.</summary>
    public const string Score = "score";

    /// <summary>Name of the gradients in an answer.</summary>
    public const string Gradient = "gradient";

    // Of an answer's header; names and shapes of two tensors take 200 bytes.
    private const int HeaderAllowance = 64 * 1024;

    /// <summary>A request's body.</summary>
    /// <param name="images">Pictures [B, C, H, W], of any floating dtype and device; sent in float32.</param>
    /// <exception cref="ArgumentException">The pictures take 2 GiB or more.</exception>
    public static byte[] Ask(Tensor images)
    {
        using var scope = NewDisposeScope();
        var host = images.detach().to(ScalarType.Float32).cpu().contiguous();
        var length = images.numel() * sizeof(float);
        if (length > int.MaxValue - HeaderAllowance)
            throw new ArgumentException($"Pictures [{string.Join(", ", images.shape)}] take {length} bytes, more than one request can carry. Use smaller shards.", nameof(images));
        var json = $$$"""{"{{{Images}}}":{"dtype":"F32","shape":[{{{string.Join(",", images.shape)}}}],"data_offsets":[0,{{{length}}}]}}""";
        var header = Encoding.UTF8.GetBytes(json.PadRight((json.Length + 7) / 8 * 8));
        var body = new byte[8 + header.Length + length];
        BinaryPrimitives.WriteUInt64LittleEndian(body, (ulong)header.Length);
        header.CopyTo(body, 8);
        host.bytes.CopyTo(body.AsSpan(8 + header.Length));
        GC.KeepAlive(host);
        return body;
    }

    /// <summary>The most bytes that an answer for these pictures may have.</summary>
    public static long MaximumAnswer(Tensor images) => 8 + HeaderAllowance + ((images.shape[0] + images.numel()) * sizeof(double));

    /// <summary>Reads an answer. Shapes and values are checked by <see cref="ExternalRewardLoss"/>.</summary>
    /// <param name="source">What errors call its sender.</param>
    /// <param name="body">The answer's bytes.</param>
    /// <returns>Scores, and gradients where the answer has them, on the CPU, in the current dispose scope.</returns>
    /// <exception cref="InvalidDataException">It is no safetensors, or has no scores.</exception>
    public static RewardScores Answer(string source, ReadOnlyMemory<byte> body)
    {
        try
        {
            if (body.Length < 8 || BinaryPrimitives.ReadUInt64LittleEndian(body.Span) is var length && length > (ulong)(body.Length - 8))
                throw new InvalidDataException($"{source} answers {body.Length} bytes that are no safetensors. Send the header's length, the header and the tensors' bytes.");
            var header = SafetensorsHeader.Parse(source, body.Slice(8, (int)length), body.Length - 8 - (int)length);
            var data = body[(8 + (int)length)..];
            return new(Read(Score) ?? throw new InvalidDataException($"{source} answers without '{Score}'; it has {string.Join(", ", header.Entries.Keys.DefaultIfEmpty("nothing"))}."), Read(Gradient));

            Tensor? Read(string name)
            {
                if (!header.Entries.TryGetValue(name, out var entry))
                    return null;
                if (entry.Dtype is not ("F32" or "F64"))
                    throw new InvalidDataException($"{source} answers '{name}' in {entry.Dtype}; expected F32 or F64.");
                var tensor = empty(entry.Shape, dtype: SafetensorsHeader.TypeOf(entry.Dtype));
                data.Span[(int)entry.Begin..(int)entry.End].CopyTo(tensor.bytes);
                GC.KeepAlive(tensor);
                return tensor;
            }
        }
        catch (Exception error) when (error is SafetensorsException or JsonException)
        {
            throw new InvalidDataException($"{source} answers what is no safetensors: {error.Message}", error);
        }
    }
}
