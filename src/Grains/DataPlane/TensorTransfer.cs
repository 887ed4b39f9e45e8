using System.Diagnostics.CodeAnalysis;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Brings bytes from the silo that holds them: inline, from this silo's memory, or in chunks of 1 MB with four under way.</summary>
internal sealed class TensorTransfer(TensorStore store, IGrainFactory grains, ILocalSiloDetails silo, Background background)
{
    private const int Window = 4;

    /// <summary>Holds bytes on this silo and says where they are.</summary>
    /// <param name="bytes">What is held; must not change any more.</param>
    /// <param name="pieceBytes">When several may each want one piece: its length. 0 when all is fetched at once.</param>
    public TensorReference Offer(byte[] bytes, int pieceBytes = 0)
    {
        var reference = bytes.Length <= TensorReference.InlineLimit
            ? new TensorReference(TensorReference.HashOf(bytes), bytes.Length, silo.Name, bytes)
            : new TensorReference(store.Put(bytes), bytes.Length, silo.Name);
        if (pieceBytes <= 0 || bytes.Length <= pieceBytes)
            return reference;
        var pieces = new List<string>();
        for (var start = 0; start < bytes.Length; start += pieceBytes)
            pieces.Add(TensorReference.HashOf(bytes.AsSpan(start, Math.Min(pieceBytes, bytes.Length - start))));
        return reference with { PieceBytes = pieceBytes, Pieces = pieces };
    }

    /// <summary>Stops holding what <see cref="Offer"/> held.</summary>
    public void Withdraw(TensorReference reference)
    {
        if (reference.Inline is null)
            store.Release(reference.Sha256);
    }

    /// <exception cref="TensorTransferException">They did not arrive in full, or not unchanged.</exception>
    public async Task<byte[]> FetchAsync(TensorReference reference, CancellationToken cancellationToken)
    {
        if (reference.Parts is null && TryGet(reference, out var here))
            return here;
        if (reference.Length > Array.MaxLength)
            throw new TensorTransferException($"{reference.Length} bytes were offered, but one blob holds at most {Array.MaxLength}.");
        var bytes = new byte[reference.Length];
        var start = 0;
        foreach (var part in reference.Parts ?? [reference])
        {
            if (TryGet(part, out var held))
                held.CopyTo(bytes, start);
            else
                await ReadAsync(part, 0, bytes.AsMemory(start, (int)part.Length), cancellationToken);
            start += (int)part.Length;
        }
        return await background.RunAsync(() => Verified(reference, bytes), cancellationToken);
    }

    /// <summary>One piece of what was offered in pieces.</summary>
    /// <exception cref="TensorTransferException">It did not arrive in full, or not unchanged.</exception>
    public async Task<byte[]> FetchPieceAsync(TensorReference reference, int piece, CancellationToken cancellationToken)
    {
        if (reference.Pieces is not { } pieces)
            throw new ArgumentException($"{reference.Sha256} was not offered in pieces.", nameof(reference));
        var start = (long)piece * reference.PieceBytes;
        var bytes = new byte[Math.Min(reference.PieceBytes, reference.Length - start)];
        if (TryGet(reference, out var held))
            held.AsSpan((int)start, bytes.Length).CopyTo(bytes);
        else
            await ReadAsync(reference, start, bytes, cancellationToken);
        return await background.RunAsync(() => Verified(new TensorReference(pieces[piece], bytes.Length, reference.Location), bytes), cancellationToken);
    }

    private bool TryGet(TensorReference reference, [NotNullWhen(true)] out byte[]? bytes)
    {
        bytes = reference.Inline is { } inline ? Verified(reference, inline) : null;
        return bytes is not null || store.TryGet(reference.Sha256, out bytes);
    }

    private async Task ReadAsync(TensorReference reference, long start, Memory<byte> into, CancellationToken cancellationToken)
    {
        var source = grains.GetGrain<ITensorStoreGrain>(ITensorStoreGrain.KeyOf(reference.Location));
        var next = 0;
        await Task.WhenAll(Enumerable.Range(0, Window).Select(_ => LaneAsync()));

        async Task LaneAsync()
        {
            // Lanes share this method's scheduler, so the counter needs no lock.
            while (next < into.Length)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var offset = next;
                var length = Math.Min(TensorChunk.MaxLength, into.Length - offset);
                next += length;
                using var chunk = await ReadAsync(source, reference, start + offset, length);
                chunk.Memory.CopyTo(into[offset..]);
            }
        }
    }

    private static async Task<TensorChunk> ReadAsync(ITensorStoreGrain source, TensorReference reference, long offset, int length)
    {
        TensorChunk? chunk;
        try
        {
            chunk = await source.ReadAsync(reference.Sha256, offset, length);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new TensorTransferException($"Silo '{reference.Location}' did not send {length} bytes at {offset} of {reference.Sha256}: {e.Message}", e);
        }
        if (chunk is null || chunk.Memory.Length != length)
            throw new TensorTransferException($"Silo '{reference.Location}' no longer holds {reference.Sha256} ({reference.Length} bytes).");
        return chunk;
    }

    private static byte[] Verified(TensorReference reference, byte[] bytes)
    {
        var sha = TensorReference.HashOf(bytes);
        return sha == reference.Sha256 && bytes.Length == reference.Length
            ? bytes
            : throw new TensorTransferException($"{bytes.Length} bytes from silo '{reference.Location}' have SHA-256 {sha}, but {reference.Sha256} ({reference.Length} bytes) was promised.");
    }
}
