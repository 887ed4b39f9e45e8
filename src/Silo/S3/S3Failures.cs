using System.Net;
using AdjointDpm.Grains.Storage;
using Amazon.Runtime;

namespace AdjointDpm.Silo.S3;

/// <summary>What went wrong with a bucket, in one sentence that names the setting to correct and no secret.</summary>
internal sealed class S3Failures(ArtifactsHostOptions options)
{
    private string Where => $"bucket '{options.Bucket}' at {options.Endpoint ?? "Amazon S3, " + options.EffectiveRegion}";

    /// <summary>Whether an exception comes from the SDK or what lies below it, and not from our own wish to stop.</summary>
    public static bool IsForeign(Exception e, CancellationToken cancellationToken) =>
        !cancellationToken.IsCancellationRequested && e is AmazonClientException or AmazonServiceException or HttpRequestException or IOException or TimeoutException or OperationCanceledException or AggregateException;

    /// <param name="error">What was thrown.</param>
    /// <param name="doing">What was tried, such as "writing 'x'".</param>
    public ArtifactException Of(Exception error, string doing)
    {
        if (error is AggregateException { InnerException: { } first })
            error = first;
        if (error is AmazonServiceException { StatusCode: not 0 } answer)
            return Answered(answer, doing);
        if (error is AmazonClientException && (error.Message.Contains("credentials", StringComparison.OrdinalIgnoreCase) || error.Message.Contains("Instance Metadata", StringComparison.OrdinalIgnoreCase)))
            return new ArtifactException($"There are no credentials for {Where}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role for this silo.", error);
        var reason = error is OperationCanceledException or TimeoutException ? $"no answer within {options.TimeoutSeconds} s" : Innermost(error);
        return new ArtifactException($"{Sentence(Where)} cannot be reached ({doing}: {reason}). Check Artifacts:Endpoint and Artifacts:Region, and that the server runs.", error) { IsPassing = true };
    }

    private ArtifactException Answered(AmazonServiceException answer, string doing)
    {
        var code = string.IsNullOrEmpty(answer.ErrorCode) ? answer.StatusCode.ToString() : answer.ErrorCode;
        var message = code switch
        {
            "NoSuchBucket" => $"There is no {Where}. Make it, or correct Artifacts:Bucket, Artifacts:Endpoint and Artifacts:Region.",
            "InvalidAccessKeyId" or "SignatureDoesNotMatch" or "InvalidToken" or "ExpiredToken" or "TokenRefreshRequired" or "UnrecognizedClientException" =>
                $"The credentials for {Where} are refused ({code}). Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile or the role of this silo.",
            "PermanentRedirect" or "AuthorizationHeaderMalformed" or "IllegalLocationConstraintException" or "MovedPermanently" =>
                $"{Sentence(Where)} is in another region ({code}). Correct Artifacts:Region.",
            "RequestTimeTooSkewed" => $"The clock of this machine differs too much from that of {Where}. Set it right.",
            _ when answer.StatusCode is HttpStatusCode.Forbidden or HttpStatusCode.Unauthorized =>
                $"The credentials for {Where} do not allow {doing} ({code}). Grant s3:ListBucket, s3:GetObject, s3:PutObject and s3:AbortMultipartUpload.",
            _ => $"{Sentence(Where)} answered {(int)answer.StatusCode} {code} ({doing}).",
        };
        return new ArtifactException(message, answer) { IsPassing = (int)answer.StatusCode >= 500 || answer.StatusCode is HttpStatusCode.TooManyRequests or HttpStatusCode.RequestTimeout };
    }

    private static string Sentence(string text) => char.ToUpperInvariant(text[0]) + text[1..];

    private static string Innermost(Exception error)
    {
        while (error.InnerException is { } inner)
            error = inner;
        return error.Message.Split('\n', 2)[0].TrimEnd('.', '\r');
    }
}
