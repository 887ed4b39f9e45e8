namespace AdjointDpm.Grains.Audit;

/// <summary>What the audit of a trial's ledger found.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialAudit")]
public sealed record TrialAudit
{
    /// <summary>Trial, as <c>experiment/index</c>.</summary>
    [Id(0)] public required string Run { get; init; }

    /// <summary>Steps recorded and committed.</summary>
    [Id(1)] public required int Steps { get; init; }

    /// <summary>Steps planned; 0 when the plan is missing.</summary>
    [Id(2)] public required int StepsPlanned { get; init; }

    /// <summary>Logical shards of a step.</summary>
    [Id(3)] public required int Shards { get; init; }

    /// <summary>Contributions that counted. Exactly <see cref="Steps"/> × <see cref="Shards"/> in a ledger that holds.</summary>
    [Id(4)] public required long Accepted { get; init; }

    /// <summary>Contributions that came again with equal contents and did not count.</summary>
    [Id(5)] public required long Duplicates { get; init; }

    /// <summary>Contributions with a token of another step, coordinator or attempt, which did not count.</summary>
    [Id(6)] public required long Stale { get; init; }

    /// <summary>Contributions that came again with other contents.</summary>
    [Id(7)] public required long Mismatches { get; init; }

    /// <summary>Sum of the weights that counted: samples.</summary>
    [Id(8)] public required long Weight { get; init; }

    /// <summary>Activations of the coordinator that recorded something.</summary>
    [Id(9)] public required int Coordinators { get; init; }

    /// <summary>Steps that were recorded, not committed, and done again.</summary>
    [Id(10)] public required int Redone { get; init; }

    /// <summary>Hash of the last committed record; empty when there is none.</summary>
    [Id(11)] public required string Head { get; init; }

    /// <summary>Where the committed head was read that the ledger was compared with; null when none was found, so that records cut off the end would not be missed.</summary>
    [Id(12)] public string? HeadSource { get; init; }

    /// <summary>SHA-256 of the parameters after the last committed step.</summary>
    [Id(13)] public string? ParametersSha256 { get; init; }

    /// <summary>What does not hold, the first first; at most <see cref="MostViolations"/>.</summary>
    [Id(14)] public required IReadOnlyList<string> Violations { get; init; }

    /// <summary>Violations that are told one by one.</summary>
    public const int MostViolations = 20;

    /// <summary>Whether the ledger proves that every contribution counted exactly once.</summary>
    public bool Holds => Violations.Count == 0;
}

/// <summary>What a trial's committed state says of its ledger.</summary>
/// <param name="Step">Steps committed.</param>
/// <param name="Sha256">Hash of the last committed record; null before the first.</param>
/// <param name="Succeeded">Whether the trial ended as planned, so that all steps must be there.</param>
/// <param name="Source">Where that was read.</param>
internal sealed record CommittedHead(int Step, string? Sha256, bool Succeeded, string Source)
{
    /// <summary>Steps committed when the ledger had been read: a trial goes on while it is looked at.</summary>
    public int Newest { get; init; } = Step;
}

/// <summary>Proves from a ledger that each shard of each step counted exactly once, or says where not.</summary>
internal static class LedgerAudit
{
    public static TrialAudit Of(string run, IEnumerable<LedgerFile> files, CommittedHead? head)
    {
        var chain = LedgerChain.Of(files);
        var violations = new List<string>(chain.Violations);
        if (head is not null)
            Compare(chain, head, violations);
        var plan = chain.Records.Count > 0 ? chain.Records[0].Plan : null;
        if (chain.Records.Count > 0 && plan is null)
            violations.Add("The first record is not the trial's plan.");
        var counts = new long[4];
        var weight = 0L;
        foreach (var record in chain.Records.Skip(1))
        {
            if (record.Run != run)
                violations.Add($"{Place(record)}: the record is of trial {record.Run}.");
            weight += Check(record, plan, counts, violations);
        }
        if (head is { Succeeded: true } && plan is not null && chain.Records.Count - 1 != plan.Steps)
            violations.Add(FormattableString.Invariant($"The trial succeeded, but {chain.Records.Count - 1} of {plan.Steps} steps are recorded."));
        return new TrialAudit
        {
            Run = run,
            Steps = Math.Max(0, chain.Records.Count - 1),
            StepsPlanned = plan?.Steps ?? 0,
            Shards = plan?.Shards ?? 0,
            Accepted = counts[(int)ContributionOutcome.Accepted],
            Duplicates = counts[(int)ContributionOutcome.Duplicate],
            Stale = counts[(int)ContributionOutcome.Stale],
            Mismatches = counts[(int)ContributionOutcome.Mismatch],
            Weight = weight,
            Coordinators = chain.Records.Select(record => record.Epoch).Distinct().Count(),
            Redone = chain.Redone,
            Head = chain.Records is [.., var last] ? last.Sha256! : "",
            HeadSource = head?.Source,
            ParametersSha256 = chain.Records is [.., var newest] ? newest.ParametersSha256 : null,
            Violations = [.. violations.Take(TrialAudit.MostViolations)],
        };
    }

    private static void Compare(LedgerChain chain, CommittedHead head, List<string> violations)
    {
        if (head.Sha256 is not { } sha)
        {
            chain.CutTo(-1);
            return;
        }
        // Beyond the committed record at most the one may stand that was being committed.
        if (chain.Records.Count > head.Newest + 2)
            violations.Add(FormattableString.Invariant($"{chain.Records.Count - 1} steps are recorded, but only {head.Newest} were committed ({head.Source})."));
        chain.CutTo(head.Step);
        if (chain.Records.Count <= head.Step)
            violations.Add(FormattableString.Invariant($"{head.Step} steps were committed ({head.Source}), but the record of step {chain.Records.Count} is missing."));
        else if (chain.Records[head.Step].Sha256 != sha)
            violations.Add(FormattableString.Invariant($"The record of step {head.Step} is not the one that was committed ({head.Source})."));
    }

    private static long Check(LedgerRecord record, LedgerPlan? plan, long[] counts, List<string> violations)
    {
        var place = Place(record);
        var shards = plan?.Shards ?? record.Contributions.Select(contribution => contribution.Shard + 1).DefaultIfEmpty().Max();
        var times = new int[shards];
        var weight = 0L;
        foreach (var contribution in record.Contributions)
        {
            counts[(int)contribution.Outcome]++;
            if (contribution.Outcome == ContributionOutcome.Mismatch)
                violations.Add(FormattableString.Invariant($"{place}, shard {contribution.Shard}: {contribution.Worker} sent other contents than the worker whose contribution counted; one of them computes wrongly."));
            if (contribution.Outcome != ContributionOutcome.Accepted)
                continue;
            weight += contribution.Weight;
            if (contribution.Weight < 0 || contribution.Weight > plan?.SamplesPerShard)
                violations.Add(FormattableString.Invariant($"{place}, shard {contribution.Shard}: it weighs {contribution.Weight}, but a shard has {plan?.SamplesPerShard ?? 0} samples."));
            if ((uint)contribution.Shard >= (uint)shards)
                violations.Add(FormattableString.Invariant($"{place}: shard {contribution.Shard} counted, but there are only {shards}."));
            else
                times[contribution.Shard]++;
            if (contribution.Attempt < 1)
                violations.Add(FormattableString.Invariant($"{place}, shard {contribution.Shard}: attempt {contribution.Attempt} was never leased."));
        }
        for (var shard = 0; shard < shards; shard++)
            if (times[shard] != 1)
                violations.Add(FormattableString.Invariant($"{place}, shard {shard}: {(times[shard] == 0 ? "no contribution" : times[shard] + " contributions")} counted instead of one."));
        // A shard may weigh nothing, as one without samples does; all of them together must not.
        if (weight != record.Weight || weight <= 0)
            violations.Add(FormattableString.Invariant($"{place}: the weights add up to {weight}, but the record says {record.Weight}{(weight <= 0 ? ", and a step of no samples has no gradient" : "")}."));
        return weight;
    }

    private static string Place(LedgerRecord record) => FormattableString.Invariant($"Step {record.Step}");
}
