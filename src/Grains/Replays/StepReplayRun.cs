using System.Globalization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Replays;

/// <summary>Computes a committed step once more, from the newest version before it that is kept, and compares every bit with the ledger.</summary>
/// <remarks>Reads the trial's folder and writes nothing there; its tokens are of a run of their own, so that a trial that goes on is not disturbed.</remarks>
internal sealed class StepReplayRun
{
    private static readonly TimeSpan Forgotten = TimeSpan.FromMinutes(1);

    /// <summary>A silo that is just starting may bring workers of the kind that the step was computed by.</summary>
    private static readonly TimeSpan Unlike = TimeSpan.FromSeconds(15);

    private readonly IActivation _activation;
    private readonly ShardDispatch _dispatch;
    private readonly TensorTransfer _transfer;
    private readonly Background _background;
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _stop;
    private readonly TrialFiles _files;
    private readonly Func<int, TrialFiles> _filesOf;
    private readonly AttemptMarks _marks;
    private readonly long _epoch;
    private readonly (string Experiment, int Trial, int Step) _what;
    private readonly SortedSet<string> _workers = new(StringComparer.Ordinal);
    private readonly List<string> _differences = [];
    private TensorReference[]? _residuals;
    private IReadOnlyList<ArithmeticSince> _arithmetic = [];
    private LedgerPlan _plan = null!;
    private ExperimentSpec _spec = null!;
    private StepReplay _progress;
    private DateTimeOffset _asked;

    public StepReplayRun(IActivation activation, SiloFolders folders, IDisk disk, IWorkerInventory inventory, ShardDispatch dispatch, TensorTransfer transfer, Background background, TimeProvider time, CancellationToken stopping)
    {
        (_activation, _dispatch, _transfer, _background, _time) = (activation, dispatch, transfer, background, time);
        _what = Parse(activation.Key);
        // A later replay of the same step fences what an earlier one left with the workers.
        _epoch = time.GetUtcNow().UtcTicks;
        _filesOf = trial => new TrialFiles(disk, background, folders.TrialWork(_what.Experiment, trial), _epoch);
        _files = _filesOf(_what.Trial);
        _marks = new AttemptMarks(disk, folders, inventory, activation.Key);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        _progress = new StepReplay { Run = ITrialGrain.KeyOf(_what.Experiment, _what.Trial), Step = _what.Step, State = ReplayState.Running };
        _asked = time.GetUtcNow();
        _ = RunAsync();
    }

    public StepReplay Progress()
    {
        _asked = _time.GetUtcNow();
        if (_progress.State != ReplayState.Running)
            _activation.Deactivate();
        return _progress;
    }

    private static (string, int, int) Parse(string key)
    {
        var (slash, at) = (key.LastIndexOf('/'), key.LastIndexOf('@'));
        return slash > 0 && at > slash
            && int.TryParse(key.AsSpan(slash + 1, at - slash - 1), NumberStyles.None, CultureInfo.InvariantCulture, out var trial)
            && int.TryParse(key.AsSpan(at + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var step)
            ? (key[..slash], trial, step)
            : throw new ArgumentException($"'{key}' does not name a step. Write EXPERIMENT/TRIAL@STEP.");
    }

    private async Task RunAsync()
    {
        await Task.Yield();
        using var watch = _activation.Every(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10), () => _time.GetUtcNow() - _asked > Forgotten ? _stop.CancelAsync() : Task.CompletedTask);
        try
        {
            await ReplayAsync();
            _progress = _progress with { State = _differences.Count == 0 ? ReplayState.Equal : ReplayState.Different, Differences = _differences };
        }
        catch (UnlikeWorkersException e)
        {
            Fail($"{e.Message} Their bits would differ without telling anything. Start a silo on a machine like those that the trial ran on.");
        }
        catch (OperationCanceledException)
        {
            Fail("It was stopped: nobody asked for it any more, or its silo ends.");
        }
#pragma warning disable CA1031 // Whatever is in its way becomes the answer: nobody else hears of it.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Fail(e.Message);
        }
        finally
        {
            _marks.Clear(_ => true);
            Forget();
            _progress = _progress with { Workers = [.. _workers] };
            _stop.Dispose();
        }
    }

    private void Forget()
    {
        foreach (var residual in _residuals ?? [])
            _transfer.Unpin(residual);
        _residuals = null;
    }

    private void Fail(string reason) => _progress = _progress with { State = ReplayState.Failed, Reason = reason, Differences = _differences };

    private async Task ReplayAsync()
    {
        var records = await LedgerAsync();
        _plan = records[0].Plan!;
        _spec = ExperimentSpecJson.Deserialize(_plan.SpecJson);
        _progress = _progress with { RecordedSha256 = records[_what.Step].ParametersSha256 };
        var (from, parameters, optimizer) = await StartAsync(records);
        _progress = _progress with { From = from };
        for (var step = from + 1; step <= _what.Step && _differences.Count == 0; step++)
        {
            var update = await RecomputeAsync(step, records[step], parameters, optimizer);
            (parameters, optimizer) = (update.Parameters, update.Optimizer);
            _progress = _progress with
            {
                StepsDone = _progress.StepsDone + 1,
                RecomputedSha256 = step == _what.Step ? TensorReference.HashOf(parameters) : null,
                Workers = [.. _workers],
            };
        }
    }

    /// <summary>The committed records, which must prove what they say before anything is compared with them.</summary>
    private async Task<IReadOnlyList<LedgerRecord>> LedgerAsync()
    {
        var audit = await _activation.Grains.GetGrain<IExperimentGrain>(_what.Experiment).AuditAsync(_what.Trial)
            ?? throw new ArgumentException($"There is no trial {_progress.Run}.");
        if (!audit.Holds)
            throw new InvalidDataException($"The ledger does not hold, so there is nothing to compare with: {audit.Violations[0]}");
        if (_what.Step < 1 || _what.Step > audit.Steps)
            throw new ArgumentException(FormattableString.Invariant($"Step {_what.Step} was not committed. Name one from 1 to {audit.Steps}."));
        return LedgerChain.Of(await _files.LedgerAsync()).Records;
    }

    /// <summary>Newest kept version before the step; the model as it is loaded when none is.</summary>
    private async Task<(int Step, byte[] Parameters, byte[] Optimizer)> StartAsync(IReadOnlyList<LedgerRecord> records)
    {
        var trial = await _activation.Grains.GetGrain<IExperimentGrain>(_what.Experiment).GetTrialsAsync(_what.Trial, 1) is [var only] ? only : null;
        _arithmetic = trial?.Arithmetic ?? [];
        for (var step = _what.Step - 1; step > 0; step--)
        {
            // Only where nothing of the gradients before is left over.
            if (EncodedGradient.Since(_spec.Training, step) != 0 || await _files.TryReadAsync(records[step].ParametersSha256) is not { } kept)
                continue;
            if (records[step].OptimizerSha256 is not { } sha)
                return (step, kept, []);
            if (await _files.TryReadAsync(sha) is { } state)
                return (step, kept, state);
        }
        // A trial of population-based training began with what another one ended with.
        if (trial is { BegunWith: { } parent } && await _filesOf(parent).TryReadAsync(records[0].ParametersSha256) is { } begun)
            return (0, begun, []);
        byte[]? parameters = null;
        await _dispatch.RunAsync(Round(WorkKind.Prepare, 0, 1, null, false, (_, _, bytes) => parameters = bytes), _stop.Token);
        Compare(TensorReference.HashOf(parameters), records[0].ParametersSha256, "the untrained parameters");
        return (0, parameters!, []);
    }

    private async Task<StepUpdate> RecomputeAsync(int step, LedgerRecord record, byte[] parameters, byte[] optimizer)
    {
        var reduction = new GradientReduction(_plan.Shards, parameters.Length / sizeof(float));
        var shards = new WorkResult[_plan.Shards];
        var recorded = record.Contributions.Where(contribution => contribution.Outcome == ContributionOutcome.Accepted).ToDictionary(contribution => contribution.Shard);
        var place = FormattableString.Invariant($"step {step}");
        var at = _transfer.Pin(parameters);
        // Workers of another kind began with nothing that was left over.
        if (_arithmetic.Skip(1).Any(since => since.Step == step))
            Forget();
        var (residuals, left) = (_residuals, new Dictionary<ShardToken, byte[]>());
        try
        {
            var round = Round(WorkKind.Gradient, step - 1, _plan.Shards, at, record.Lean == true, (shard, result, bytes) =>
            {
                shards[shard] = result;
                reduction.Add(shard, EncodedGradient.Floats(_spec.Training, step - 1, bytes!), result.Weight);
                _workers.Add(result.Statistics.Worker);
                Compare(result.ContentSha256, recorded[shard].ContentSha256, FormattableString.Invariant($"{place}, shard {shard}: the contents by {result.Statistics.Worker}"), $" by {recorded[shard].Worker}");
                _progress = _progress with { ShardsCompared = _progress.ShardsCompared + 1 };
            });
            await _dispatch.RunAsync(round with
            {
                Assign = token => round.Assign(token) with { Residual = residuals?[token.Shard] },
                Collect = async (result, cancellationToken) =>
                {
                    // Held here from step to step, so that a worker that is lost costs nothing but its shard.
                    if (result.Residual is { } residual)
                        left[result.Token] = await _transfer.FetchAsync(residual, cancellationToken);
                    return await _transfer.FetchAsync(result.Blob!, cancellationToken);
                },
            }, _stop.Token);
        }
        finally
        {
            _transfer.Unpin(at);
            Forget();
        }
        if (left.Count > 0)
            _residuals = [.. shards.Select(shard => _transfer.Pin(left[shard.Token]))];
        var update = await _background.RunAsync(() => StepUpdate.Of(reduction, step, _spec, parameters, optimizer, _time));
        foreach (var (name, value) in StepUpdate.Metrics(shards, update.Norm))
            if (!record.Metrics.TryGetValue(name, out var was) || BitConverter.DoubleToInt64Bits(was) != BitConverter.DoubleToInt64Bits(value))
                _differences.Add(string.Create(CultureInfo.InvariantCulture, $"{place}: {name} is {value:R} instead of {was:R}"));
        Compare(TensorReference.HashOf(update.Parameters), record.ParametersSha256, $"{place}: the parameters");
        if (record.OptimizerSha256 is { } state)
            Compare(TensorReference.HashOf(update.Optimizer), state, $"{place}: the optimiser's state");
        return update;
    }

    private void Compare(string found, string recorded, string what, string by = "")
    {
        if (found != recorded)
            _differences.Add($"{what}: SHA-256 {found} instead of {recorded}{by}");
    }

    private WorkRound Round(WorkKind kind, int step, int shards, TensorReference? parameters, bool lean, Action<int, WorkResult, byte[]?> accept) => new()
    {
        Ledger = new StepLedger(_activation.Key, _epoch, kind, step, shards),
        Device = _spec.Resources.Device,
        Threads = _spec.Resources.Threads,
        Arithmetic = _arithmetic.LastOrDefault(since => since.Step <= Math.Max(1, step + 1))?.Kind,
        UnlikeAfter = Unlike,
        Rotation = _what.Trial,
        Lease = TimeSpan.FromSeconds(_spec.Failure.LeaseSeconds),
        MaxAttempts = _spec.Failure.MaxShardAttempts,
        Marks = _marks,
        Assign = token => new WorkAssignment
        {
            Token = token,
            SpecJson = _plan.SpecJson,
            SpecSha256 = _plan.SpecSha256,
            Parameters = parameters,
            // Other files than those of the run would give other bits: a worker that sees others refuses.
            ModelSha256 = _plan.ModelSha256,
            LeanFrom = lean ? step + 1 : null,
            Priority = _spec.Resources.Priority ?? 0,
            Weight = _spec.Resources.Weight ?? 1,
        },
        Accept = accept,
        Reissued = (_, _) => { },
    };
}
