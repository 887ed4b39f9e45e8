using System.Collections.Immutable;
using System.ComponentModel.DataAnnotations;
using System.Security.Cryptography;
using AdjointDpm.Grains.Storage;
using Amazon;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;

namespace AdjointDpm.Silo.S3;

/// <summary>A bucket of Amazon S3 or a server that speaks its language. Every body is signed with its SHA-256, and what arrived is compared with what was sent.</summary>
internal sealed class S3Bucket : IBucket, IDisposable
{
    /// <summary>Written when a silo starts: the right to write is there before anything was computed.</summary>
    public const string Probe = "adjointdpm.txt";

    private const int PartsAtOnce = 4;
    private static readonly byte[] ProbeText = "AdjointDpm keeps results of experiments here: experiments/{id}/report.json, experiments/{id}/trial-{n}/manifest.json.\n"u8.ToArray();

    private readonly ArtifactsHostOptions _options;
    private readonly AmazonS3Client _client;
    private readonly S3Failures _failures;

    private S3Bucket(ArtifactsHostOptions options)
    {
        _options = options;
        Address = $"s3://{options.Bucket}{(options.Prefix.Length > 0 ? "/" + options.Prefix : "")}";
        _failures = new S3Failures(options);
        var config = new AmazonS3Config
        {
            ForcePathStyle = options.EffectivePathStyle,
            Timeout = TimeSpan.FromSeconds(options.TimeoutSeconds),
            RetryMode = RequestRetryMode.Standard,
            MaxErrorRetry = 3,
            // Checksums that not every server knows are not added; SHA-256 is, below.
            RequestChecksumCalculation = RequestChecksumCalculation.WHEN_REQUIRED,
            ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED,
        };
        if (options.Endpoint is { } endpoint)
            (config.ServiceURL, config.AuthenticationRegion) = (endpoint, options.EffectiveRegion);
        else
            config.RegionEndpoint = RegionEndpoint.GetBySystemName(options.EffectiveRegion);
        _client = new AmazonS3Client(config);
    }

    public string Address { get; }

    /// <summary>Opens a bucket and proves that it can be written, read and listed.</summary>
    /// <exception cref="ValidationException">It cannot; says in one sentence why.</exception>
    public static async Task<S3Bucket> OpenAsync(ArtifactsHostOptions options, TimeProvider time, CancellationToken cancellationToken)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(TimeSpan.FromSeconds(45));
        S3Bucket? bucket = null;
        try
        {
            bucket = new S3Bucket(options);
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    await bucket.PutAsync(Probe, BucketContent.Of(ProbeText), ImmutableDictionary<string, string>.Empty, timeout.Token);
                    await bucket.ListAsync(Probe, timeout.Token);
                    return bucket;
                }
                catch (ArtifactException e) when (e.IsPassing && attempt < 5)
                {
                    // A server that starts together with the silos.
                    await Task.Delay(TimeSpan.FromSeconds(0.5 * attempt), time, timeout.Token);
                }
            }
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested && e is ArtifactException or AmazonClientException or OperationCanceledException)
        {
            bucket?.Dispose();
            throw new ValidationException(e is ArtifactException said ? said.Message : new S3Failures(options).Of(e, "opening it").Message, e);
        }
    }

    public async Task PutAsync(string key, BucketContent content, IReadOnlyDictionary<string, string> notes, CancellationToken cancellationToken)
    {
        try
        {
            var checksum = content.Length > _options.PartBytes
                ? await PutPartsAsync(key, content, notes, cancellationToken)
                : await PutWholeAsync(key, content, notes, cancellationToken);
            await CompareAsync(key, content, checksum, cancellationToken);
        }
        catch (Exception e) when (S3Failures.IsForeign(e, cancellationToken))
        {
            throw _failures.Of(e, $"writing '{key}'");
        }
    }

    public async Task<IReadOnlyDictionary<string, string>?> NotesAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            var head = await _client.GetObjectMetadataAsync(new GetObjectMetadataRequest { BucketName = _options.Bucket, Key = NameOf(key) }, cancellationToken);
            return head.Metadata.Keys.ToDictionary(name => name["x-amz-meta-".Length..], name => head.Metadata[name]);
        }
        catch (AmazonS3Exception e) when (e.StatusCode == System.Net.HttpStatusCode.NotFound && e.ErrorCode != "NoSuchBucket")
        {
            return null;
        }
        catch (Exception e) when (S3Failures.IsForeign(e, cancellationToken))
        {
            throw _failures.Of(e, $"looking for '{key}'");
        }
    }

    public async Task<Stream?> OpenAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            var found = await _client.GetObjectAsync(new GetObjectRequest { BucketName = _options.Bucket, Key = NameOf(key) }, cancellationToken);
            return found.ResponseStream;
        }
        catch (AmazonS3Exception e) when (e.StatusCode == System.Net.HttpStatusCode.NotFound && e.ErrorCode != "NoSuchBucket")
        {
            return null;
        }
        catch (Exception e) when (S3Failures.IsForeign(e, cancellationToken))
        {
            throw _failures.Of(e, $"reading '{key}'");
        }
    }

    public async Task<IReadOnlyList<string>> ListAsync(string start, CancellationToken cancellationToken)
    {
        var names = new List<string>();
        try
        {
            for (string? next = null; ;)
            {
                var page = await _client.ListObjectsV2Async(new ListObjectsV2Request { BucketName = _options.Bucket, Prefix = NameOf(start), ContinuationToken = next }, cancellationToken);
                names.AddRange((page.S3Objects ?? []).Select(found => found.Key[NameOf("").Length..]));
                if (page.IsTruncated != true)
                    break;
                next = page.NextContinuationToken;
            }
        }
        catch (Exception e) when (S3Failures.IsForeign(e, cancellationToken))
        {
            throw _failures.Of(e, $"listing '{start}'");
        }
        names.Sort(StringComparer.Ordinal);
        return names;
    }

    public void Dispose() => _client.Dispose();

    private async Task<string> PutWholeAsync(string key, BucketContent content, IReadOnlyDictionary<string, string> notes, CancellationToken cancellationToken)
    {
        var checksum = Convert.ToBase64String(Convert.FromHexString(content.Sha256));
        await using var stream = content.Open();
        var request = new PutObjectRequest
        {
            BucketName = _options.Bucket,
            Key = NameOf(key),
            InputStream = stream,
            AutoCloseStream = false,
            // The whole body's SHA-256 is part of the signature.
            UseChunkEncoding = false,
            DisablePayloadSigning = false,
            ChecksumSHA256 = checksum,
        };
        foreach (var (name, value) in notes)
            request.Metadata.Add(name, value);
        await _client.PutObjectAsync(request, cancellationToken);
        return checksum;
    }

    /// <summary>Puts an object in parts. What a silo that is killed in between leaves of them is no object; a rule of the bucket can remove it.</summary>
    /// <returns>What S3 calls the checksum of such an object: the hash of the parts' hashes.</returns>
    private async Task<string> PutPartsAsync(string key, BucketContent content, IReadOnlyDictionary<string, string> notes, CancellationToken cancellationToken)
    {
        var begin = new InitiateMultipartUploadRequest { BucketName = _options.Bucket, Key = NameOf(key), ChecksumAlgorithm = ChecksumAlgorithm.SHA256 };
        foreach (var (name, value) in notes)
            begin.Metadata.Add(name, value);
        var upload = await _client.InitiateMultipartUploadAsync(begin, cancellationToken);
        try
        {
            var parts = new PartETag[(content.Length + _options.PartBytes - 1) / _options.PartBytes];
            await Parallel.ForEachAsync(Enumerable.Range(0, parts.Length), new ParallelOptions { MaxDegreeOfParallelism = PartsAtOnce, CancellationToken = cancellationToken }, async (part, token) =>
                parts[part] = await PutPartAsync(key, upload.UploadId, content, part, token));
            await _client.CompleteMultipartUploadAsync(new CompleteMultipartUploadRequest { BucketName = _options.Bucket, Key = NameOf(key), UploadId = upload.UploadId, PartETags = [.. parts] }, cancellationToken);
            return Convert.ToBase64String(SHA256.HashData(parts.SelectMany(part => Convert.FromBase64String(part.ChecksumSHA256)).ToArray()));
        }
        catch
        {
            await AbandonAsync(key, upload.UploadId);
            throw;
        }
    }

    private async Task<PartETag> PutPartAsync(string key, string upload, BucketContent content, int part, CancellationToken cancellationToken)
    {
        var start = (long)part * _options.PartBytes;
        var length = Math.Min(_options.PartBytes, content.Length - start);
        await using var stream = content.Open();
        stream.Position = start;
        var checksum = Convert.ToBase64String(await HashAsync(stream, length, cancellationToken));
        stream.Position = start;
        var done = await _client.UploadPartAsync(new UploadPartRequest
        {
            BucketName = _options.Bucket,
            Key = NameOf(key),
            UploadId = upload,
            PartNumber = part + 1,
            PartSize = length,
            InputStream = stream,
            UseChunkEncoding = false,
            DisablePayloadSigning = false,
            ChecksumAlgorithm = ChecksumAlgorithm.SHA256,
            ChecksumSHA256 = checksum,
        }, cancellationToken);
        return new PartETag(part + 1, done.ETag) { ChecksumSHA256 = checksum };
    }

    private async Task AbandonAsync(string key, string upload)
    {
        try
        {
            using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(10));
            await _client.AbortMultipartUploadAsync(new AbortMultipartUploadRequest { BucketName = _options.Bucket, Key = NameOf(key), UploadId = upload }, timeout.Token);
        }
        catch (Exception e) when (S3Failures.IsForeign(e, CancellationToken.None))
        {
            // Why the parts did not arrive is what is told.
        }
    }

    /// <summary>Asks the bucket for the SHA-256 of what it holds; where it keeps none, reads the object back.</summary>
    private async Task CompareAsync(string key, BucketContent content, string checksum, CancellationToken cancellationToken)
    {
        var head = await _client.GetObjectMetadataAsync(new GetObjectMetadataRequest { BucketName = _options.Bucket, Key = NameOf(key), ChecksumMode = ChecksumMode.ENABLED }, cancellationToken);
        var equal = head.ContentLength == content.Length
            && (head.ChecksumSHA256 is { Length: > 0 } kept ? kept.Split('-')[0] == checksum : await ReadBackAsync(key, content.Length, cancellationToken) == content.Sha256);
        if (!equal)
            throw new ArtifactException($"'{Address}/{key}' is not what was sent there: {head.ContentLength} bytes of {content.Length}, or of another SHA-256.") { IsPassing = true };
    }

    private async Task<string> ReadBackAsync(string key, long length, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 16];
        // Piece by piece, so that the time limit of a request holds for each.
        for (var at = 0L; at < length; at += _options.PartBytes)
        {
            using var piece = await _client.GetObjectAsync(new GetObjectRequest { BucketName = _options.Bucket, Key = NameOf(key), ByteRange = new ByteRange(at, Math.Min(length, at + _options.PartBytes) - 1) }, cancellationToken);
            using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            timeout.CancelAfter(TimeSpan.FromSeconds(_options.TimeoutSeconds));
            for (int read; (read = await piece.ResponseStream.ReadAsync(buffer, timeout.Token)) > 0;)
                hash.AppendData(buffer, 0, read);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static async Task<byte[]> HashAsync(Stream stream, long length, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 16];
        for (var left = length; left > 0;)
        {
            var read = await stream.ReadAsync(buffer.AsMemory(0, (int)Math.Min(left, buffer.Length)), cancellationToken);
            if (read == 0)
                throw new EndOfStreamException("A file became shorter while it was sent.");
            hash.AppendData(buffer, 0, read);
            left -= read;
        }
        return hash.GetHashAndReset();
    }

    private string NameOf(string key) => _options.Prefix.Length > 0 ? $"{_options.Prefix}/{key}" : key;
}
