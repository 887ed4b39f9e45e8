using System.Globalization;
using System.Text;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers.Engine;

namespace AdjointDpm.Grains.Workers;

/// <summary>What an engine made of an assignment, before it is offered to the coordinator.</summary>
internal sealed record ShardWork(byte[]? Blob, long Weight, IReadOnlyDictionary<string, double> Sums, WorkStatistics Statistics, string? ModelSha256 = null)
{
    public TimeSpan Fetch { get; init; }

    public TimeSpan Queue { get; init; }

    /// <summary>What the encoding of the gradient left for the shard's next step.</summary>
    public byte[]? Residual { get; init; }

    /// <summary>What is left to do and needs no device: waiting for the disk or the bucket.</summary>
    public Func<CancellationToken, Task>? Finish { get; init; }

    /// <summary>Does the work, on the device's thread. Memory that is kept for other trials is no reason to ask less of this one.</summary>
    public static ShardWork Do(IGradientEngine engine, WorkAssignment assignment, ParameterVersion? parameters, ParameterVersion? before, byte[]? residual, IArtifacts artifacts, CancellationToken cancellationToken, Action? progressed = null)
    {
        var plan = PlanOf(assignment) with { Progressed = progressed };
        return Sparing(engine, plan, () => Do(engine, plan, assignment, parameters, before, residual, artifacts, cancellationToken));
    }

    private static ShardWork Sparing(IGradientEngine engine, TrialPlan plan, Func<ShardWork> work)
    {
        try
        {
            return work();
        }
        catch (Exception e) when (WorkFailures.IsOutOfMemory(e) && engine.Spare(plan))
        {
            return work();
        }
    }

    private static ShardWork Do(IGradientEngine engine, TrialPlan plan, WorkAssignment assignment, ParameterVersion? parameters, ParameterVersion? before, byte[]? residual, IArtifacts artifacts, CancellationToken cancellationToken)
    {
        var token = assignment.Token;
        switch (token.Kind)
        {
            case WorkKind.Prepare:
                var prepared = engine.Prepare(plan, cancellationToken);
                return new ShardWork(prepared.Parameters, 1, NoSums, new WorkStatistics { PlannedBytes = prepared.PlannedBytes, Hardware = prepared.Hardware, Arithmetic = prepared.Arithmetic }, prepared.ModelSha256);
            case WorkKind.Prove:
                return new ShardWork(engine.Prove(plan, parameters!, cancellationToken).ToJson(), 1, NoSums, new WorkStatistics());
            case WorkKind.Draw:
                return new ShardWork(engine.Draw(plan, parameters!, cancellationToken), 1, NoSums, new WorkStatistics());
            case WorkKind.Gradient:
                return Differentiate(engine, plan, assignment, parameters!, residual, cancellationToken);
            case WorkKind.EvaluateBefore or WorkKind.EvaluateAfter or WorkKind.Guard:
                var evaluation = engine.Evaluate(plan with { Guided = token.Kind == WorkKind.EvaluateAfter && plan.Spec.Train.Target == TrainTarget.None }, parameters!, assignment.FirstSample, assignment.Samples, cancellationToken);
                return new ShardWork(null, evaluation.Samples, evaluation.Sums, evaluation.Statistics);
            case WorkKind.Save:
                var finish = artifacts.Write(assignment.ArtifactFolder!, $"{assignment.SpecSha256}/{parameters!.Sha256}", folder =>
                {
                    engine.Save(plan, before!, parameters, assignment.MetricsFile!, folder, cancellationToken);
                    var proof = Path.Combine(Path.GetDirectoryName(assignment.MetricsFile)!, ResultNames.Proof);
                    if (File.Exists(proof))
                        File.Copy(proof, Path.Combine(folder, ResultNames.Proof));
                    SheetTexts.Add(folder, token.Trial, assignment.SpecSha256, assignment.MetricsFile!, before!, parameters, File.Exists(proof) ? GradientProofReport.Parse(File.ReadAllBytes(proof)) : null);
                    StepPictures.Copy(Path.GetDirectoryName(assignment.MetricsFile)!, folder);
                });
                return new ShardWork(null, 1, NoSums, new WorkStatistics()) { Finish = finish };
            default:
                throw new InvalidOperationException($"Unknown work {token.Kind}.");
        }
    }

    /// <summary>Computes a shard's gradient, on the device's thread.</summary>
    public static ShardWork Differentiate(IGradientEngine engine, WorkAssignment assignment, ParameterVersion parameters, byte[]? residual, CancellationToken cancellationToken)
    {
        var plan = PlanOf(assignment);
        return Sparing(engine, plan, () => Differentiate(engine, plan, assignment, parameters, residual, cancellationToken));
    }

    private static ShardWork Differentiate(IGradientEngine engine, TrialPlan plan, WorkAssignment assignment, ParameterVersion parameters, byte[]? residual, CancellationToken cancellationToken)
    {
        var token = assignment.Token;
        var gradient = engine.Differentiate(plan, parameters, token.Step, token.Shard, cancellationToken);
        var (sent, left) = EncodedGradient.Encode(plan.Spec.Training, token.Step, gradient.Gradient, residual);
        return new ShardWork(sent, gradient.Samples, gradient.Sums, gradient.Statistics) { Residual = left };
    }

    /// <summary>Offers the blob on the data plane and makes the answer for the coordinator.</summary>
    public WorkResult Publish(WorkAssignment assignment, string worker, TensorTransfer transfer, TimeSpan total)
    {
        var (token, blob) = (assignment.Token, Blob is null ? null : transfer.Offer(Blob, assignment.PieceBytes));
        var residual = Residual is null ? null : transfer.Offer(Residual);
        return new WorkResult
        {
            Token = token,
            Blob = blob,
            Weight = Weight,
            Sums = Sums,
            ModelSha256 = ModelSha256,
            Parameters = (Blob?.Length ?? 0) / sizeof(float),
            Residual = residual,
            ContentSha256 = ContentOf(blob, residual),
            Statistics = Statistics with { Worker = worker, FetchSeconds = Fetch.TotalSeconds, QueueSeconds = Queue.TotalSeconds, TotalSeconds = total.TotalSeconds },
        };
    }

    /// <summary>What a device should know of an assignment before it begins.</summary>
    public static DeviceTask TaskOf(WorkAssignment assignment) => new(assignment.Share, engine => engine.BytesAbove(PlanOf(assignment), assignment.Token.Kind == WorkKind.Gradient));

    private static readonly Dictionary<string, double> NoSums = [];

    private static TrialPlan PlanOf(WorkAssignment assignment) => new(TrialSpecs.Of(assignment.SpecJson), assignment.ModelSha256, assignment.Lean);

    private string ContentOf(TensorReference? blob, TensorReference? residual)
    {
        var text = new StringBuilder(blob?.Sha256 ?? "").Append('/').Append(Weight).Append('/').Append(ModelSha256);
        foreach (var (name, sum) in Sums.OrderBy(pair => pair.Key, StringComparer.Ordinal))
            text.Append('/').Append(name).Append('=').Append(BitConverter.DoubleToInt64Bits(sum).ToString("x16", CultureInfo.InvariantCulture));
        if (residual is not null)
            text.Append("/residual=").Append(residual.Sha256);
        return TensorReference.HashOf(Encoding.UTF8.GetBytes(text.ToString()));
    }
}
