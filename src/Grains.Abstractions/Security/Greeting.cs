using System.Buffers.Binary;
using System.Text;

namespace AdjointDpm.Grains.Security;

/// <summary>What client and gateway say before the messages begin, once a cluster is secured: the client its token, or none; the gateway yes, or no and why.</summary>
internal static class Greeting
{
    /// <summary>Longest token, in bytes: JSON web tokens are long.</summary>
    public const int MostTokenBytes = 8192;

    private const int MostSentenceBytes = 1000;
    private const int LengthBytes = sizeof(ushort);

    private static ReadOnlySpan<byte> Hello => "ADG1"u8;

    /// <summary>The client's part.</summary>
    /// <exception cref="UnauthorizedAccessException">The gateway refuses; the message says why.</exception>
    public static async Task SayAsync(Stream stream, string? token, CancellationToken cancellationToken)
    {
        var bytes = Encoding.UTF8.GetBytes(token ?? "");
        if (bytes.Length > MostTokenBytes)
            throw new UnauthorizedAccessException($"The token has {bytes.Length} bytes, but at most {MostTokenBytes} are accepted.");
        var message = new byte[Hello.Length + LengthBytes + bytes.Length];
        Hello.CopyTo(message);
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(Hello.Length), (ushort)bytes.Length);
        bytes.CopyTo(message, Hello.Length + LengthBytes);
        await stream.WriteAsync(message, cancellationToken);
        await stream.FlushAsync(cancellationToken);
        var length = new byte[LengthBytes];
        await stream.ReadExactlyAsync(length, cancellationToken);
        var sentence = new byte[Math.Min(MostSentenceBytes, (int)BinaryPrimitives.ReadUInt16BigEndian(length))];
        await stream.ReadExactlyAsync(sentence, cancellationToken);
        if (sentence.Length > 0)
            throw new UnauthorizedAccessException(Encoding.UTF8.GetString(sentence));
    }

    /// <summary>Hears the client's token; empty when it has none, null when what comes is no greeting.</summary>
    public static async Task<string?> HearAsync(Stream stream, CancellationToken cancellationToken)
    {
        var head = new byte[Hello.Length + LengthBytes];
        await stream.ReadExactlyAsync(head, cancellationToken);
        var length = BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(Hello.Length));
        if (!head.AsSpan().StartsWith(Hello) || length > MostTokenBytes)
            return null;
        var token = new byte[length];
        await stream.ReadExactlyAsync(token, cancellationToken);
        return Encoding.UTF8.GetString(token);
    }

    /// <summary>Answers: null is yes.</summary>
    public static async Task AnswerAsync(Stream stream, string? refusal, CancellationToken cancellationToken)
    {
        var sentence = Encoding.UTF8.GetBytes(refusal ?? "");
        var message = new byte[LengthBytes + sentence.Length];
        BinaryPrimitives.WriteUInt16BigEndian(message, (ushort)sentence.Length);
        sentence.CopyTo(message, LengthBytes);
        await stream.WriteAsync(message, cancellationToken);
        await stream.FlushAsync(cancellationToken);
        if (refusal is null)
            return;
        // Ending the connection with bytes unread could take the sentence with it, so the client ends it, or time does.
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(TimeSpan.FromSeconds(2));
        var rest = new byte[1024];
        for (var read = 0; read < MostTokenBytes;)
        {
            var got = await stream.ReadAsync(rest, patience.Token);
            if (got == 0)
                return;
            read += got;
        }
    }
}
