using System.Globalization;
using System.Text;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Workers;

/// <summary>What an engine made of an assignment, before it is offered to the coordinator.</summary>
internal sealed record ShardWork(byte[]? Blob, long Weight, IReadOnlyDictionary<string, double> Sums, WorkStatistics Statistics, string? ModelSha256 = null)
{
    public TimeSpan Fetch { get; init; }

    public TimeSpan Queue { get; init; }

    /// <summary>What is left to do, away from the device, before the work counts as done.</summary>
    public Func<CancellationToken, Task>? Rest { get; init; }

    /// <summary>Does the work, on the device's thread.</summary>
    public static ShardWork Do(IGradientEngine engine, WorkAssignment assignment, ParameterVersion? parameters, ParameterVersion? before, IArtifacts artifacts, CancellationToken cancellationToken)
    {
        var plan = new TrialPlan(ExperimentSpecJson.Deserialize(assignment.SpecJson), assignment.ModelSha256);
        var token = assignment.Token;
        switch (token.Kind)
        {
            case WorkKind.Prepare:
                var prepared = engine.Prepare(plan, cancellationToken);
                return new ShardWork(prepared.Parameters, 1, NoSums, new WorkStatistics(), prepared.ModelSha256);
            case WorkKind.Prove:
                return new ShardWork(engine.Prove(plan, parameters!, cancellationToken).ToJson(), 1, NoSums, new WorkStatistics());
            case WorkKind.Gradient:
                var gradient = engine.Differentiate(plan, parameters!, token.Step, token.Shard, cancellationToken);
                return new ShardWork(gradient.Gradient, gradient.Samples, gradient.Sums, gradient.Statistics);
            case WorkKind.EvaluateBefore or WorkKind.EvaluateAfter:
                var evaluation = engine.Evaluate(plan, parameters!, assignment.FirstSample, assignment.Samples, cancellationToken);
                return new ShardWork(null, evaluation.Samples, evaluation.Sums, evaluation.Statistics);
            case WorkKind.Save:
                var rest = artifacts.Write(assignment.ArtifactFolder!, $"{assignment.SpecSha256}/{parameters!.Sha256}", folder =>
                {
                    engine.Save(plan, before!, parameters, assignment.MetricsFile!, folder, cancellationToken);
                    var proof = Path.Combine(Path.GetDirectoryName(assignment.MetricsFile)!, TrialFiles.ProofFile);
                    if (File.Exists(proof))
                        File.Copy(proof, Path.Combine(folder, TrialFiles.ProofFile));
                });
                return new ShardWork(null, 1, NoSums, new WorkStatistics()) { Rest = rest };
            default:
                throw new InvalidOperationException($"Unknown work {token.Kind}.");
        }
    }

    /// <summary>Offers the blob on the data plane and makes the answer for the coordinator.</summary>
    public WorkResult Publish(WorkAssignment assignment, string worker, TensorTransfer transfer, TimeSpan total)
    {
        var (token, blob) = (assignment.Token, Blob is null ? null : transfer.Offer(Blob, assignment.PieceBytes));
        return new WorkResult
        {
            Token = token,
            Blob = blob,
            Weight = Weight,
            Sums = Sums,
            ModelSha256 = ModelSha256,
            Parameters = (Blob?.Length ?? 0) / sizeof(float),
            ContentSha256 = ContentOf(blob),
            Statistics = Statistics with { Worker = worker, FetchSeconds = Fetch.TotalSeconds, QueueSeconds = Queue.TotalSeconds, TotalSeconds = total.TotalSeconds },
        };
    }

    private static readonly Dictionary<string, double> NoSums = [];

    private string ContentOf(TensorReference? blob)
    {
        var text = new StringBuilder(blob?.Sha256 ?? "").Append('/').Append(Weight).Append('/').Append(ModelSha256);
        foreach (var (name, sum) in Sums.OrderBy(pair => pair.Key, StringComparer.Ordinal))
            text.Append('/').Append(name).Append('=').Append(BitConverter.DoubleToInt64Bits(sum).ToString("x16", CultureInfo.InvariantCulture));
        return TensorReference.HashOf(Encoding.UTF8.GetBytes(text.ToString()));
    }
}
