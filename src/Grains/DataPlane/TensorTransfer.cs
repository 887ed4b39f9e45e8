using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Brings bytes from the silo that holds them: inline, from this silo's memory, or in chunks of 1 MB with four under way.</summary>
internal sealed class TensorTransfer(TensorStore store, IGrainFactory grains, ILocalSiloDetails silo, Background background)
{
    private const int Window = 4;

    /// <summary>Holds bytes on this silo and says where they are.</summary>
    public TensorReference Offer(byte[] bytes)
    {
        if (bytes.Length <= TensorReference.InlineLimit)
            return new TensorReference(TensorReference.HashOf(bytes), bytes.Length, silo.Name, bytes);
        return new TensorReference(store.Put(bytes), bytes.Length, silo.Name);
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
        if (reference.Inline is { } inline)
            return Verified(reference, inline);
        if (store.TryGet(reference.Sha256, out var local))
            return local;
        if (reference.Length > Array.MaxLength)
            throw new TensorTransferException($"{reference.Length} bytes were offered, but one blob holds at most {Array.MaxLength}.");
        var bytes = new byte[reference.Length];
        var source = grains.GetGrain<ITensorStoreGrain>(ITensorStoreGrain.KeyOf(reference.Location));
        var next = 0L;
        await Task.WhenAll(Enumerable.Range(0, Window).Select(_ => LaneAsync()));
        return await background.RunAsync(() => Verified(reference, bytes), cancellationToken);

        async Task LaneAsync()
        {
            // Lanes share this method's scheduler, so the counter needs no lock.
            while (next < bytes.Length)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var offset = next;
                var length = (int)Math.Min(TensorChunk.MaxLength, bytes.Length - offset);
                next += length;
                using var chunk = await ReadAsync(source, reference, offset, length);
                chunk.Memory.CopyTo(bytes.AsMemory((int)offset));
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
