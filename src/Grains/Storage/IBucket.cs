using System.Security.Cryptography;

namespace AdjointDpm.Grains.Storage;

/// <summary>A bucket, or the part of one below a prefix: the few operations on it that results need. All may be done again.</summary>
/// <remarks>They fail with <see cref="ArtifactException"/> and try nothing twice that takes long: who calls decides how patient to be.</remarks>
public interface IBucket
{
    /// <summary>What it is called, such as <c>s3://results/team</c>.</summary>
    string Address { get; }

    /// <summary>Replaces an object, and returns once the bucket is known to hold these bytes.</summary>
    /// <param name="key">Name below the prefix.</param>
    /// <param name="content">The bytes.</param>
    /// <param name="notes">Kept with the object: lower-case names, short values.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    Task PutAsync(string key, BucketContent content, IReadOnlyDictionary<string, string> notes, CancellationToken cancellationToken);

    /// <summary>Notes of an object; null when there is none.</summary>
    Task<IReadOnlyDictionary<string, string>?> NotesAsync(string key, CancellationToken cancellationToken);

    /// <summary>Opens an object for reading from the beginning; null when there is none.</summary>
    Task<Stream?> OpenAsync(string key, CancellationToken cancellationToken);

    /// <summary>Names below the prefix that begin with <paramref name="start"/>, sorted.</summary>
    Task<IReadOnlyList<string>> ListAsync(string start, CancellationToken cancellationToken);
}

/// <summary>Bytes that can be read more than once, with their hash.</summary>
/// <param name="Length">Number of bytes.</param>
/// <param name="Sha256">SHA-256 in hexadecimal.</param>
/// <param name="Open">Opens them at the beginning; the stream can seek.</param>
public sealed record BucketContent(long Length, string Sha256, Func<Stream> Open)
{
    /// <summary>Bytes in memory.</summary>
    public static BucketContent Of(byte[] bytes) => new(bytes.Length, Convert.ToHexStringLower(SHA256.HashData(bytes)), () => new MemoryStream(bytes, writable: false));
}
