using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Brings bytes from the silo that holds them: inline, from this silo's memory, over a connection of their own, or in chunks of 1 MB with four under way.</summary>
internal sealed class TensorTransfer(TensorStore store, IGrainFactory grains, ILocalSiloDetails silo, Background background, TensorStreams? streams = null, int inlineBytes = TensorReference.InlineLimit)
{
    private const int Window = 4;

    /// <summary>Holds bytes on this silo and says where they are.</summary>
    /// <param name="bytes">What is held; must not change any more.</param>
    /// <param name="pieceBytes">When several may each want one piece: its length. 0 when all is fetched at once.</param>
    /// <param name="sha256">Their SHA-256, when it has been taken already.</param>
    public TensorReference Offer(byte[] bytes, int pieceBytes = 0, string? sha256 = null)
    {
        var reference = Reference(bytes, sha256, store.Put);
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

    /// <summary>Says where bytes are that the caller keeps in memory anyway: they are there for others until <see cref="Unpin"/>, however much else is offered.</summary>
    /// <param name="bytes">What is held; must not change any more.</param>
    /// <param name="sha256">Their SHA-256, when it has been taken already.</param>
    public TensorReference Pin(byte[] bytes, string? sha256 = null) => Reference(bytes, sha256, store.Pin);

    /// <summary>Stops holding what <see cref="Pin"/> held.</summary>
    public void Unpin(TensorReference reference)
    {
        if (reference.Inline is null)
            store.Unpin(reference.Sha256);
    }

    /// <summary>Stops holding bytes that the caller made and <see cref="Pin"/> held.</summary>
    /// <returns>Whether nobody reads that very array any more, nor ever will, so that its memory may be written to.</returns>
    public bool Reclaim(TensorReference reference, byte[] own) => reference.Inline is null && store.Reclaim(reference.Sha256, own);

    private TensorReference Reference(byte[] bytes, string? sha256, Func<byte[], string?, string> hold) => bytes.Length <= inlineBytes
        ? new TensorReference(sha256 ?? TensorReference.HashOf(bytes), bytes.Length, silo.Name, bytes)
        : new TensorReference(hold(bytes, sha256), bytes.Length, silo.Name);

    /// <exception cref="TensorTransferException">They did not arrive in full, or not unchanged.</exception>
    public async Task<byte[]> FetchAsync(TensorReference reference, CancellationToken cancellationToken) => (await FetchAsync(reference, null, cancellationToken)).Bytes;

    /// <summary>Brings bytes here, if they are not here already, for as long as they are used.</summary>
    /// <param name="reference">What is wanted.</param>
    /// <param name="spare">Where it goes, when it has its length: memory that nobody reads any more.</param>
    /// <param name="cancellationToken">Ends the transfer.</param>
    /// <returns>Bytes that this silo held already are leased; without an end of the lease they are read for good.</returns>
    /// <exception cref="TensorTransferException">They did not arrive in full, or not unchanged; what is in <paramref name="spare"/> then has no meaning.</exception>
    public async Task<FetchedTensor> FetchAsync(TensorReference reference, byte[]? spare, CancellationToken cancellationToken)
    {
        if (reference is { Parts: null, Inline: null } && store.TryRead(reference.Sha256, out var lease))
            return new FetchedTensor(lease.Bytes, IsOwn: false, lease);
        if (reference.Parts is null && TryGet(reference, out var here))
            return new FetchedTensor(here, IsOwn: false);
        if (reference.Length > Array.MaxLength)
            throw new TensorTransferException($"{reference.Length} bytes were offered, but one blob holds at most {Array.MaxLength}.");
        var bytes = spare?.Length == reference.Length ? spare : GC.AllocateUninitializedArray<byte>((int)reference.Length);
        await FetchAsync(reference, bytes.AsMemory(), cancellationToken);
        return new FetchedTensor(bytes, IsOwn: true);
    }

    /// <summary>Brings bytes into memory of the caller's own.</summary>
    /// <exception cref="TensorTransferException">They did not arrive in full, or not unchanged.</exception>
    public async Task FetchAsync(TensorReference reference, Memory<byte> into, CancellationToken cancellationToken)
    {
        if (reference.Length != into.Length || (reference.Parts is { } many && many.Sum(part => part.Length) != into.Length))
            throw new TensorTransferException($"{into.Length} bytes of {reference.Sha256} are wanted, but {reference.Length} were offered.");
        if (reference.Parts is null && TryGet(reference, out var here))
        {
            here.CopyTo(into);
            return;
        }
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var (start, hashed) = (0, 0);
        foreach (var part in reference.Parts ?? [reference])
        {
            var (end, next) = (start + (int)part.Length, into.Slice(start, (int)part.Length));
            if (TryGet(part, out var held))
                held.CopyTo(next);
            else if (await ReadAsync(part, 0, next, hashed == start ? hash : null, cancellationToken))
                hashed = end;
            start = end;
        }
        await background.RunAsync(() => Verified(reference, hash, into.Span[hashed..], into.Length), cancellationToken);
    }

    /// <summary>One piece of what was offered in pieces.</summary>
    /// <exception cref="TensorTransferException">It did not arrive in full, or not unchanged.</exception>
    public async Task<byte[]> FetchPieceAsync(TensorReference reference, int piece, CancellationToken cancellationToken)
    {
        var bytes = GC.AllocateUninitializedArray<byte>(PieceLength(reference, piece));
        await FetchPieceAsync(reference, piece, bytes, cancellationToken);
        return bytes;
    }

    /// <summary>One piece, into memory of the caller's own.</summary>
    /// <exception cref="TensorTransferException">It did not arrive in full, or not unchanged.</exception>
    public async Task FetchPieceAsync(TensorReference reference, int piece, Memory<byte> into, CancellationToken cancellationToken)
    {
        if (PieceLength(reference, piece) != into.Length)
            throw new TensorTransferException($"Piece {piece} of {reference.Sha256} has {PieceLength(reference, piece)} bytes, but {into.Length} are wanted.");
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var (start, hashed) = ((long)piece * reference.PieceBytes, 0);
        if (TryGet(reference, out var held))
            held.AsSpan((int)start, into.Length).CopyTo(into.Span);
        else if (await ReadAsync(reference, start, into, hash, cancellationToken))
            hashed = into.Length;
        await background.RunAsync(() => Verified(new TensorReference(reference.Pieces![piece], into.Length, reference.Location), hash, into.Span[hashed..], into.Length), cancellationToken);
    }

    private static int PieceLength(TensorReference reference, int piece) => reference.Pieces is { } pieces && piece < pieces.Count
        ? (int)Math.Min(reference.PieceBytes, reference.Length - (long)piece * reference.PieceBytes)
        : throw new ArgumentException($"{reference.Sha256} was not offered in pieces.", nameof(reference));

    private bool TryGet(TensorReference reference, [NotNullWhen(true)] out byte[]? bytes)
    {
        bytes = reference.Inline;
        if (bytes is not null)
        {
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            Verified(reference, hash, bytes, bytes.Length);
        }
        return bytes is not null || store.TryGet(reference.Sha256, out bytes);
    }

    /// <returns>Whether <paramref name="hash"/> has taken the bytes already.</returns>
    private async Task<bool> ReadAsync(TensorReference reference, long start, Memory<byte> into, IncrementalHash? hash, CancellationToken cancellationToken)
    {
        var source = grains.GetGrain<ITensorStoreGrain>(ITensorStoreGrain.KeyOf(reference.Location));
        if (streams is not null && streams.Wants(into.Length) && await streams.TryReadAsync(reference.Location, source, reference.Sha256, start, into, hash, cancellationToken))
            return hash is not null;
        var next = 0;
        await Task.WhenAll(Enumerable.Range(0, Window).Select(_ => LaneAsync()));
        return false;

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

    private static bool Verified(TensorReference reference, IncrementalHash hash, ReadOnlySpan<byte> rest, int length)
    {
        hash.AppendData(rest);
        var sha = Convert.ToHexStringLower(hash.GetHashAndReset());
        return sha == reference.Sha256 && length == reference.Length
            ? true
            : throw new TensorTransferException($"{length} bytes from silo '{reference.Location}' have SHA-256 {sha}, but {reference.Sha256} ({reference.Length} bytes) was promised.");
    }
}

/// <summary>Bytes that were fetched.</summary>
/// <param name="Bytes">What they are; not to be changed.</param>
/// <param name="IsOwn">Whether they were brought here for whoever fetched them; else others read the very array.</param>
/// <param name="Lease">To be disposed when this silo held them already and they are no longer used.</param>
internal readonly record struct FetchedTensor(byte[] Bytes, bool IsOwn, TensorLease? Lease = null);
