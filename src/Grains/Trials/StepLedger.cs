using AdjointDpm.Grains.Audit;

namespace AdjointDpm.Grains.Trials;

/// <summary>Names one attempt at one piece of one round of work. Equal up to the attempt: equal bits.</summary>
/// <param name="Trial">Trial, as <c>experiment/index</c>.</param>
/// <param name="Epoch">Activation of the coordinator; grows with every one, so that a former coordinator is recognised.</param>
/// <param name="Kind">What is done.</param>
/// <param name="Step">Step the work belongs to: the number of steps committed before it.</param>
/// <param name="Shard">Piece of the round, from 0.</param>
/// <param name="Attempt">Attempt, from 1.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ShardToken")]
internal readonly record struct ShardToken(
    [property: Id(0)] string Trial,
    [property: Id(1)] long Epoch,
    [property: Id(2)] WorkKind Kind,
    [property: Id(3)] int Step,
    [property: Id(4)] int Shard,
    [property: Id(5)] int Attempt)
{
    public override string ToString() => $"{Trial} {Kind} step {Step} shard {Shard} attempt {Attempt} epoch {Epoch}";
}

/// <summary>Kinds of work that a coordinator leases to workers.</summary>
internal enum WorkKind
{
    Prepare,
    EvaluateBefore,
    Gradient,
    EvaluateAfter,
    Save,
    Prove,
    Guard,

    /// <summary>A row of samples, for people.</summary>
    Draw,
}

/// <summary>Which shards of one round are open, leased or contributed. Every shard counts exactly once, whoever sends what how often.</summary>
/// <remarks>Not thread-safe; owned by one coordinator. Times are passed in.</remarks>
internal sealed class StepLedger
{
    private readonly long _epoch;
    private readonly WorkKind _kind;
    private readonly int _step;
    private readonly Shard[] _shards;
    private readonly List<LedgerContribution> _contributions = [];

    /// <param name="trial">Trial, as <c>experiment/index</c>.</param>
    /// <param name="epoch">Activation of the coordinator.</param>
    /// <param name="kind">What is done.</param>
    /// <param name="step">Number of steps committed before.</param>
    /// <param name="shards">Pieces of the round.</param>
    public StepLedger(string trial, long epoch, WorkKind kind, int step, int shards)
    {
        if (shards <= 0)
            throw new ArgumentOutOfRangeException(nameof(shards), shards, "A round needs at least one shard.");
        (Trial, _epoch, _kind, _step) = (trial, epoch, kind, step);
        _shards = new Shard[shards];
        for (var i = 0; i < shards; i++)
            _shards[i] = new Shard();
    }

    public string Trial { get; }

    public int Shards => _shards.Length;

    public int Contributed { get; private set; }

    /// <summary>Shards that no worker has.</summary>
    public int Open => _shards.Count(shard => shard is { Hash: null, Worker: null });

    public bool IsComplete => Contributed == _shards.Length;

    /// <summary>Lowest shard without a contribution; null when all have one.</summary>
    public int? First => Array.FindIndex(_shards, shard => shard.Hash is null) is >= 0 and var first ? first : null;

    /// <summary>Every contribution so far in the order of arrival, also those that do not count.</summary>
    public IReadOnlyList<LedgerContribution> Contributions => _contributions;

    /// <summary>Silos that have something which a shard begins with: their workers take it first. Who takes it changes no bits.</summary>
    public IReadOnlyList<string>? Homes { get; set; }

    /// <summary>Attempts beyond the first, over all shards.</summary>
    public int Reissued { get; private set; }

    public int Attempts(int shard) => _shards[shard].Attempts;

    /// <summary>Content hash of an accepted contribution; null while there is none.</summary>
    public string? HashOf(int shard) => _shards[shard].Hash;

    /// <summary>Whether a result would be the first of its shard.</summary>
    public bool Wants(in ShardToken token) => Stale(token) is null && _shards[token.Shard].Hash is null;

    /// <summary>Leases the open shard with the lowest index, one that is at home with the worker first, or the one that it must be. False when none is open.</summary>
    public bool TryLease(string worker, DateTimeOffset now, DateTimeOffset until, out ShardToken token, int? only = null)
    {
        var open = -1;
        for (var i = only ?? 0; i <= (only ?? _shards.Length - 1); i++)
        {
            if (_shards[i] is not { Hash: null, Worker: null })
                continue;
            var home = Homes is null || Workers.WorkerInventory.SiloOf(worker) == Homes[i];
            if (open < 0 || home)
                open = i;
            if (home)
                break;
        }
        token = open < 0 ? default : Lease(open, worker, now, until);
        return open >= 0;
    }

    /// <summary>Leases the shard that another worker has held longest, since <paramref name="before"/> or earlier. That worker's result still counts if it is first.</summary>
    public bool TryTakeOver(string worker, DateTimeOffset before, DateTimeOffset now, DateTimeOffset until, out ShardToken token, int? only = null)
    {
        var oldest = -1;
        for (var i = only ?? 0; i <= (only ?? _shards.Length - 1); i++)
        {
            var shard = _shards[i];
            if (shard.Hash is null && shard.Worker is not null && shard.Worker != worker && shard.Since <= before && (oldest < 0 || shard.Since < _shards[oldest].Since))
                oldest = i;
        }
        token = oldest < 0 ? default : Lease(oldest, worker, now, until);
        return oldest >= 0;
    }

    /// <summary>Extends a lease. One that ran out comes back to life as long as nobody else took the shard.</summary>
    public bool Renew(in ShardToken token, string worker, DateTimeOffset until)
    {
        if (!IsOfThisRound(token))
            return false;
        var shard = _shards[token.Shard];
        if (shard.Hash is not null || (shard.Worker is not null && shard.Leased != token.Attempt))
            return false;
        (shard.Worker, shard.Until, shard.Leased) = (worker, until, token.Attempt);
        return true;
    }

    /// <summary>Opens all shards whose lease has run out.</summary>
    public IReadOnlyList<ShardToken> Expire(DateTimeOffset now)
    {
        List<ShardToken>? expired = null;
        for (var i = 0; i < _shards.Length; i++)
        {
            var shard = _shards[i];
            if (shard.Worker is null || shard.Hash is not null || shard.Until > now)
                continue;
            (expired ??= []).Add(new ShardToken(Trial, _epoch, _kind, _step, i, shard.Leased));
            shard.Worker = null;
        }
        return expired ?? [];
    }

    /// <summary>Opens a shard whose attempt failed. False when that attempt does not hold the lease any more.</summary>
    public bool Release(in ShardToken token)
    {
        if (!IsOfThisRound(token))
            return false;
        var shard = _shards[token.Shard];
        if (shard.Hash is not null || shard.Worker is null || shard.Leased != token.Attempt)
            return false;
        shard.Worker = null;
        return true;
    }

    /// <summary>Counts a contribution. The first valid one wins, even when its lease has run out: equal tokens have equal bits.</summary>
    /// <param name="token">Token that came with the result, not the one that was asked about.</param>
    /// <param name="hash">Hash of all that must be equal when the work is done again.</param>
    /// <param name="weight">Number of samples behind it.</param>
    /// <param name="worker">Who computed it.</param>
    public ContributionOutcome Contribute(in ShardToken token, string hash, long weight = 1, string worker = "")
    {
        var stale = Stale(token);
        var outcome = stale is not null ? ContributionOutcome.Stale : Judge(_shards[token.Shard], hash);
        _contributions.Add(new LedgerContribution(token.Shard, token.Attempt, outcome, hash, weight, worker) { Stale = stale, Token = stale is null ? null : token.ToString() });
        if (outcome != ContributionOutcome.Accepted)
            return outcome;
        var shard = _shards[token.Shard];
        shard.Hash = hash;
        shard.Worker = null;
        Contributed++;
        return outcome;
    }

    private static ContributionOutcome Judge(Shard shard, string hash) =>
        shard.Hash is null ? ContributionOutcome.Accepted : shard.Hash == hash ? ContributionOutcome.Duplicate : ContributionOutcome.Mismatch;

    private ShardToken Lease(int index, string worker, DateTimeOffset now, DateTimeOffset until)
    {
        var shard = _shards[index];
        shard.Attempts++;
        if (shard.Attempts > 1)
            Reissued++;
        (shard.Worker, shard.Since, shard.Until, shard.Leased) = (worker, now, until, shard.Attempts);
        return new ShardToken(Trial, _epoch, _kind, _step, index, shard.Attempts);
    }

    /// <summary>What of a token is not of this round, or was never given out; null for a good one.</summary>
    private StaleReason? Stale(in ShardToken token) =>
        token.Trial != Trial ? StaleReason.Run
        : token.Epoch != _epoch ? StaleReason.Coordinator
        : token.Kind != _kind ? StaleReason.Work
        : token.Step != _step ? StaleReason.Step
        : (uint)token.Shard >= (uint)_shards.Length ? StaleReason.Shard
        : token.Attempt <= 0 || token.Attempt > _shards[token.Shard].Attempts ? StaleReason.Attempt
        : null;

    private bool IsOfThisRound(in ShardToken token) => Stale(token) is null or StaleReason.Attempt;

    private sealed class Shard
    {
        public int Attempts;
        public int Leased;
        public string? Worker;
        public DateTimeOffset Since;
        public DateTimeOffset Until;
        public string? Hash;
    }
}
