using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials.Ranges;

/// <summary>Parameters too many for one process: each silo owns ranges of them. The coordinator tells them what to fetch and add, and never sees more than a window.</summary>
internal sealed partial class RangedParameters(IGrainFactory grains, IWorkerInventory inventory, RangeOwners owners, TrialFiles files, TrialAssignment assignment, RangeClaim claim, int pieceBytes, TimeProvider time, ILogger logger) : ITrainedParameters
{
    /// <summary>How long an owner may be silent before it is asked whether it is there.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    /// <summary>Asked in vain so often in a row it is not.</summary>
    private const int MostSilent = 2;

    /// <summary>An owner that has not begun to load a range when it was asked so often, a minute long, has not got the call, or is busy with what an earlier coordinator wanted.</summary>
    private const int MostWaiting = 20;

    private readonly ExperimentSpec _spec = ExperimentSpecJson.Deserialize(assignment.SpecJson);
    private List<Range> _ranges = [];
    private (TensorReference Reference, List<Range> Ranges)? _stepped;
    private TensorReference? _reference;
    private int _step;

    public TensorReference Reference => _reference ?? throw new RangeLostException("The ranges are not placed yet.");

    /// <summary>The owners write a version before they tell of it, and offer it then.</summary>
    public bool StepsAhead => false;

    public int PieceBytes => pieceBytes;

    /// <summary>Places the untrained parameters on silos, each of which fetches its range from the worker that has read them.</summary>
    /// <returns>SHA-256 of the whole.</returns>
    public async Task<string> PlaceAsync(TensorReference untrained)
    {
        var pieces = untrained.Pieces?.Count ?? throw new WorkFailedException($"The parameters have {untrained.Length} bytes and were offered as one piece.");
        var versions = await PlaceAsync([.. Enumerable.Range(0, pieces).Select(range => Load(range) with { Untrained = untrained })], 0);
        var sha = await files.JoinedAsync(new VersionParts(1, Parts(versions, version => version.Parameters.Sha256)));
        _reference = Whole(sha, versions);
        return sha;
    }

    /// <summary>Places a committed version.</summary>
    public async Task PlaceAsync(int step, string parameters, string? optimizer)
    {
        var (parts, state) = ((await files.PartsAsync(parameters))!.Parts, optimizer is null ? null : (await files.PartsAsync(optimizer))!.Parts);
        _reference = Whole(parameters, await PlaceAsync([.. parts.Select((part, range) => Load(range) with { ParametersSha256 = part.Sha256, OptimizerSha256 = state?[range].Sha256 })], step));
    }

    public void Begin(int shards)
    {
        // The first gradient of a step begins its gathering in each range; a step that is done again has another claim.
    }

    public async Task<byte[]?> CollectAsync(WorkResult result, CancellationToken cancellationToken)
    {
        Lengths.Require(result, Reference.Length / sizeof(float) * EncodedGradient.BytesPerNumber(_spec.Training, result.Token.Step));
        var round = Round;
        await EachAsync(async range =>
        {
            await range.Grain.AddAsync(new RangeShard(round, result.Token.Shard, result.Weight, result.Blob!));
            return true;
        }).WaitAsync(cancellationToken);
        return null;
    }

    public void Accept(int shard, WorkResult result, byte[]? gradient)
    {
        // The ranges have it already.
    }

    public async Task<SteppedVersion> StepAsync(int step)
    {
        var (round, started, squares) = (Round, time.GetTimestamp(), 0.0);
        // One after the other: the very additions that one process would do.
        foreach (var range in _ranges)
            squares = await OfAsync(range, range.Grain.SumOfSquaresAsync(round, squares));
        var (norm, seconds) = (Math.Sqrt(squares), time.GetElapsedTime(started).TotalSeconds);
        if (!double.IsFinite(norm))
            return new SteppedVersion(norm, "", seconds, () => NoOptimizer);
        var stepped = await EachAsync(range => range.Grain.StepAsync(round, norm));
        var parameters = await files.JoinedAsync(new VersionParts(1, Parts(stepped, version => version.Parameters.Sha256)));
        var perParameter = ParameterOptimizer.Of(_spec).StatePerParameter;
        var optimizer = perParameter == 0 ? null : await files.JoinedAsync(new VersionParts(perParameter, Parts(stepped, version => version.OptimizerSha256!)));
        _stepped = (Whole(parameters, stepped), _ranges);
        return new SteppedVersion(norm, parameters, seconds, () => Task.FromResult(optimizer));
    }

    public void Committed()
    {
        _reference = _stepped!.Value.Reference;
        _stepped = null;
        _step++;
    }

    public async Task<TensorReference> OfferAsync(string sha256)
    {
        if (sha256 == Reference.Sha256)
            return Reference;
        var parts = (await files.PartsAsync(sha256))!.Parts;
        var references = await EachAsync(range => range.Grain.OfferAsync(claim, parts[range.Index].Sha256));
        return new TensorReference(sha256, Reference.Length, "") { Parts = references };
    }

    public Task CheckAsync() => EachAsync(async range =>
    {
        await range.Grain.CheckAsync(claim).WaitAsync(Patience, time);
        return true;
    });

    public void Release()
    {
        foreach (var range in _ranges)
            range.Grain.ReleaseAsync(claim).Ignore();
    }

    private static Task<string?> NoOptimizer => Task.FromResult<string?>(null);

    private RangeRound Round => new(claim, _step);

    private RangeLoad Load(int range) => new() { Experiment = assignment.Experiment, Trial = assignment.Index, Claim = claim, SpecJson = assignment.SpecJson, Range = range };

    private async Task<RangeVersion[]> PlaceAsync(RangeLoad[] loads, int step)
    {
        var ready = owners.Among([.. inventory.List(_spec.Resources.Device).Select(WorkerInventory.SiloOf).Distinct()]);
        (_reference, _stepped, _step) = (null, null, step);
        _ranges = [.. loads.Select((_, i) => Make(ready[(i + assignment.Index) % ready.Count], i))];
        var versions = await EachAsync(range => range.Grain.LoadAsync(loads[range.Index]), isLoad: true);
        LogPlaced(logger, assignment.Experiment, assignment.Index, versions.Length, ready.Count);
        return versions;
    }

    private Range Make(string silo, int index) => new(silo, index, grains.GetGrain<IParameterRangeGrain>(FormattableString.Invariant($"{silo}/{assignment.Experiment}:{assignment.Index}:{index}")));

    private static TensorReference Whole(string sha, RangeVersion[] versions) =>
        new(sha, versions.Sum(version => version.Parameters.Length), "") { Parts = [.. versions.Select(version => version.Parameters)] };

    private static VersionPart[] Parts(RangeVersion[] versions, Func<RangeVersion, string> sha) =>
        [.. versions.Select(version => new VersionPart(sha(version), (int)(version.Parameters.Length / sizeof(float))))];

    private Task<T[]> EachAsync<T>(Func<Range, Task<T>> call, bool isLoad = false) => Task.WhenAll(_ranges.Select(range => OfAsync(range, call(range), isLoad)));

    /// <summary>Waits for an owner, which may have hundreds of megabytes to bring over, for as long as it is there.</summary>
    /// <param name="range">Range.</param>
    /// <param name="answer">What its owner was asked for.</param>
    /// <param name="isLoad">Whether the range is held for this coordinator only once the owner has begun with that.</param>
    private async Task<T> OfAsync<T>(Range range, Task<T> answer, bool isLoad = false)
    {
        try
        {
            for (var (silent, waiting) = (0, 0); ;)
            {
                try
                {
                    return await answer.WaitAsync(Patience, time);
                }
                catch (TimeoutException) when (!answer.IsCompleted)
                {
                    // Looked after below.
                }
                var owner = await LookAsync(range, isLoad);
                silent = owner == Owner.Silent ? silent + 1 : 0;
                waiting = owner == Owner.Waiting ? waiting + 1 : 0;
                if (silent == MostSilent)
                    throw new TimeoutException($"it does not say that it is there, asked {MostSilent} times.");
                if (waiting == MostWaiting)
                    throw new TimeoutException($"it has not begun to load the range, asked {MostWaiting} times.");
            }
        }
        catch (RangeLostException)
        {
            answer.Ignore();
            throw;
        }
        catch (Exception e) when (e is SiloUnavailableException or Hosting.SiloNotActiveException or TimeoutException or OrleansMessageRejectionException)
        {
            answer.Ignore();
            owners.Lost(range.Silo);
            throw new RangeLostException($"Range {range.Index} on silo '{range.Silo}' does not answer: {e.Message}", e);
        }
    }

    private async Task<Owner> LookAsync(Range range, bool isLoad)
    {
        try
        {
            await range.Grain.CheckAsync(claim).WaitAsync(Patience, time);
            return Owner.Holding;
        }
        catch (TimeoutException)
        {
            return Owner.Silent;
        }
        catch (RangeLostException) when (isLoad)
        {
            return Owner.Waiting;
        }
    }

    /// <summary>What an owner says of a range when it is asked.</summary>
    private enum Owner
    {
        Holding,
        Silent,

        /// <summary>It has not begun to load the range.</summary>
        Waiting,
    }

    private sealed record Range(string Silo, int Index, IParameterRangeGrain Grain);

    [LoggerMessage(Level = LogLevel.Information, Message = "Trial {Experiment}/{Trial} has its parameters in {Ranges} ranges on {Silos} silos.")]
    private static partial void LogPlaced(ILogger logger, string experiment, int trial, int ranges, int silos);
}
