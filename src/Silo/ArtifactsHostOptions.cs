using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Silo;

/// <summary>Section <c>Artifacts</c>: where results go. Without a bucket they go to the data folder. Credentials are never here: they come from the environment, a profile or a role, as the SDK finds them.</summary>
/// <remarks>An empty variable of the environment is none.</remarks>
public sealed class ArtifactsHostOptions : IValidatableObject
{
    public const string Section = "Artifacts";

    /// <summary>Name of an S3 bucket. Default: none, results go to the data folder.</summary>
    public string? Bucket { get; set => field = NullIfEmpty(value); }

    /// <summary>What the names of all objects begin with, without slashes around it: a cluster's own part of the bucket. Default: none.</summary>
    public string Prefix { get; set; } = "";

    /// <summary>Address of an S3-compatible server, such as <c>https://minio:9000</c>. Default: Amazon's, for the region.</summary>
    public string? Endpoint { get; set => field = NullIfEmpty(value); }

    /// <summary>Region. Default: AWS_REGION, else us-east-1 with an endpoint.</summary>
    public string? Region { get; set => field = NullIfEmpty(value); }

    /// <summary>Whether the bucket is named in the path and not in the host's name: what most servers but Amazon's want. Default: true with an endpoint, else false.</summary>
    public bool? PathStyle { get; set; }

    /// <summary>Files above this many bytes go in parts of that length, four at once. Amazon takes no less than 5 MiB. Default: 16 MiB.</summary>
    [Range(1 << 20, 1 << 30)]
    public int PartBytes { get; set; } = 16 << 20;

    /// <summary>How long a request may take. Default: 100.</summary>
    [Range(1, 3600)]
    public int TimeoutSeconds { get; set; } = 100;

    /// <summary>How long a file is tried for, through a server that is gone or refuses, before the attempt to save fails and another worker saves anew. Default: 600.</summary>
    [Range(0, 86400)]
    public int RetrySeconds { get; set; } = 600;

    /// <summary>Folder of this machine that results are written to before they are sent. Default: <c>adjointdpm-staging</c> in the folder for temporary files.</summary>
    public string StagingFolder { get; set; } = Path.Combine(Path.GetTempPath(), "adjointdpm-staging");

    internal bool EffectivePathStyle => PathStyle ?? Endpoint is not null;

    internal string? EffectiveRegion => Region ?? NullIfEmpty(Environment.GetEnvironmentVariable("AWS_REGION")) ?? NullIfEmpty(Environment.GetEnvironmentVariable("AWS_DEFAULT_REGION")) ?? (Endpoint is null ? null : "us-east-1");

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Bucket is null)
        {
            if (Prefix.Length > 0 || Endpoint is not null)
                yield return new ValidationResult("Artifacts:Prefix or Artifacts:Endpoint is set, but Artifacts:Bucket is not. Name the bucket, or remove the section to keep results in the data folder.");
            yield break;
        }
        if (Bucket.Length is < 3 or > 63 || !Bucket.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '.'))
            yield return new ValidationResult($"Artifacts:Bucket is '{Bucket}', which is no bucket's name: 3 to 63 lower-case letters, digits, '-' and '.'.");
        if (!Prefix.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '/') || Prefix.StartsWith('/') || Prefix.EndsWith('/') || Prefix.Split('/') is { Length: > 1 } parts && parts.Any(part => part is "" or "." or ".."))
            yield return new ValidationResult($"Artifacts:Prefix is '{Prefix}'. Write letters, digits, '-', '_' and '.', with single slashes between and none around.");
        if (Endpoint is not null && !(Uri.TryCreate(Endpoint, UriKind.Absolute, out var address) && address.Scheme is "http" or "https" && address.UserInfo.Length == 0 && address.AbsolutePath == "/" && address.Query.Length == 0))
            yield return new ValidationResult("Artifacts:Endpoint is not of the form https://host or http://host:port. Credentials do not belong in it: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role.");
        if (Endpoint is null && PartBytes < 5 << 20)
            yield return new ValidationResult($"Artifacts:PartBytes is {PartBytes}. Amazon S3 takes no parts below 5242880 bytes.");
        if (EffectiveRegion is null)
            yield return new ValidationResult("Artifacts:Bucket is set, but Artifacts:Region, Artifacts:Endpoint and AWS_REGION are not. Name the bucket's region.");
    }

    private static string? NullIfEmpty(string? value) => string.IsNullOrWhiteSpace(value) ? null : value;
}
