using AdjointDpm.Grains.Hosting;
using Orleans.Concurrency;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Serves the <see cref="TensorStore"/> of one silo. Key: <c>{silo}/tensors</c>.</summary>
[Alias("adjointdpm.ITensorStoreGrain")]
internal interface ITensorStoreGrain : IGrainWithStringKey
{
    /// <summary>A run of bytes; null when the silo does not hold them.</summary>
    [Alias("Read"), AlwaysInterleave]
    Task<TensorChunk?> ReadAsync(string sha256, long offset, int length);

    /// <summary>Leave to read a run of bytes over a connection beside the messages; null when the silo has none for it.</summary>
    [Alias("Grant"), AlwaysInterleave]
    Task<TensorGrant?> GrantAsync(string sha256, long offset, long length);

    static string KeyOf(string silo) => $"{silo}/tensors";
}

[NamedSiloPlacement]
internal sealed class TensorStoreGrain(TensorStore store, TensorStreamServer streams) : Grain, ITensorStoreGrain
{
    public Task<TensorChunk?> ReadAsync(string sha256, long offset, int length)
    {
        if (!store.TryGet(sha256, out var bytes) || offset < 0 || length < 0 || offset + length > bytes.Length)
            return Task.FromResult<TensorChunk?>(null);
        return Task.FromResult<TensorChunk?>(TensorChunk.View(bytes.AsMemory((int)offset, length)));
    }

    public Task<TensorGrant?> GrantAsync(string sha256, long offset, long length) => Task.FromResult(streams.Grant(sha256, offset, length));
}
