using AdjointDpm.Grains.Audit;

namespace AdjointDpm.Grains.Tests.Audit;

public sealed class LedgerAuditTests
{
    private const int Steps = 3, Shards = 2;

    [Fact]
    public void WholeLedger_Holds()
    {
        var audit = LedgerAudit.Of("e/0", [Ledger(1)], Head(Ledger(1)));
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        Assert.Equal((Steps, Shards, Steps * Shards, Steps * Shards * 4L), (audit.Steps, audit.Shards, audit.Accepted, audit.Weight));
    }

    [Fact]
    public void AnyBitFlipped_IsFound()
    {
        var whole = Ledger(1);
        for (var line = 0; line < whole.Lines.Count; line++)
        {
            // Every 7th character keeps this to milliseconds and still meets every field.
            for (var at = line; at < whole.Lines[line].Length; at += 7)
            {
                var flipped = whole.Lines[line].ToCharArray();
                flipped[at] = (char)(flipped[at] ^ 1);
                Assert.False(LedgerAudit.Of("e/0", [With(whole, line, new string(flipped))], Head(whole)).Holds, $"line {line}, character {at}");
            }
        }
    }

    [Fact]
    public void AnyLineRemovedDoubledOrMoved_IsFound()
    {
        var whole = Ledger(1);
        for (var line = 0; line < whole.Lines.Count; line++)
        {
            var removed = whole.Lines.Where((_, i) => i != line).ToList();
            Assert.False(LedgerAudit.Of("e/0", [whole with { Lines = removed }], Head(whole)).Holds);
            var doubled = whole.Lines.Take(line + 1).Concat(whole.Lines.Skip(line)).ToList();
            Assert.False(LedgerAudit.Of("e/0", [whole with { Lines = doubled }], Head(whole)).Holds);
            var moved = removed.Append(whole.Lines[line]).ToList();
            Assert.Equal(line == whole.Lines.Count - 1, LedgerAudit.Of("e/0", [whole with { Lines = moved }], Head(whole)).Holds);
        }
    }

    [Theory]
    [InlineData(0, "shard 0: no contribution counted instead of one")]
    [InlineData(2, "shard 1: 2 contributions counted instead of one")]
    public void ShardMissingOrCountedTwice_IsNamed_EvenWithGoodHashes(int times, string expected)
    {
        var records = Records(1);
        IReadOnlyList<LedgerContribution> contributions = times == 0 ? [Contribution(1)] : [Contribution(0), Contribution(1), Contribution(1)];
        var forged = Chain([records[0], records[1], records[2] with { Contributions = contributions, Weight = 4 * contributions.Count }, records[3]]);
        var audit = LedgerAudit.Of("e/0", [File(1, forged)], null);
        Assert.Contains(expected, audit.Violations[0], StringComparison.Ordinal);
    }

    /// <summary>A shard may have no samples, as the reduction has it; a step may not, and what counts is what was added up.</summary>
    [Theory]
    [InlineData(0, 4, 4, null)]
    [InlineData(0, 0, 0, "a step of no samples has no gradient")]
    [InlineData(4, 4, 9, "the weights add up to 8, but the record says 9")]
    [InlineData(5, 4, 9, "it weighs 5, but a shard has 4 samples")]
    [InlineData(-1, 4, 3, "it weighs -1")]
    public void Weights_AreThoseOfTheRecord(long first, long second, long recorded, string? violation)
    {
        var records = Records(1);
        var forged = Chain([records[0], records[1], records[2] with { Contributions = [Contribution(0) with { Weight = first }, Contribution(1) with { Weight = second }], Weight = recorded }, records[3]]);
        var audit = LedgerAudit.Of("e/0", [File(1, forged)], null);
        if (violation is null)
            Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        else
            Assert.Contains(violation, Assert.Single(audit.Violations), StringComparison.Ordinal);
    }

    [Fact]
    public void Forged_WithAllHashesMadeAnew_DiffersFromTheCommittedHead()
    {
        var records = Records(1);
        var forged = File(1, Chain([.. records.Select(record => record.Step == 2 ? record with { Metrics = new Dictionary<string, double> { ["loss"] = 0 } } : record)]));
        Assert.True(LedgerAudit.Of("e/0", [forged], null).Holds);
        Assert.Contains("not the one that was committed", Assert.Single(LedgerAudit.Of("e/0", [forged], Head(Ledger(1))).Violations), StringComparison.Ordinal);
    }

    [Fact]
    public void StepRecordedTwiceByTwoCoordinators_CountsOnce_AndMustAgree()
    {
        var first = Records(1);
        var second = Chain([.. first.Take(2), .. first.Skip(2).Select(record => record with { Epoch = 2 })]);
        LedgerFile[] files = [File(1, first.Take(3)), File(2, second.Skip(2))];
        var audit = LedgerAudit.Of("e/0", files, new CommittedHead(3, second[^1].Sha256, true, "test"));
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        Assert.Equal((1, 2, 6L), (audit.Redone, audit.Coordinators, audit.Accepted));

        var other = Chain([.. first.Take(2), .. first.Skip(2).Select(record => record with { Epoch = 2, ParametersSha256 = "other" })]);
        Assert.Contains("gave other parameters", LedgerAudit.Of("e/0", [files[0], File(2, other.Skip(2))], null).Violations[0], StringComparison.Ordinal);
    }

    /// <summary>States of a backup may be older than the ledger beside them: all steps behind them are done again, count once, and must agree.</summary>
    [Fact]
    public void StepsDoneAgainAfterARestoredBackup_CountOnce_AndMustAllAgree()
    {
        var first = Records(1);
        var second = Chain([first[0], .. first.Skip(1).Select(record => record with { Epoch = 2 })]);
        var audit = LedgerAudit.Of("e/0", [File(1, first), File(2, second.Skip(1))], new CommittedHead(3, second[^1].Sha256, true, "test"));
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        Assert.Equal((3, 2, 6L), (audit.Redone, audit.Coordinators, audit.Accepted));

        var other = Chain([.. second.Take(3), second[3] with { ParametersSha256 = "other" }]);
        Assert.Contains("step 3 was done again and gave other parameters", Assert.Single(LedgerAudit.Of("e/0", [File(1, first), File(2, other.Skip(1))], null).Violations), StringComparison.Ordinal);
        // One coordinator records no step twice.
        Assert.Contains("step 2 is recorded twice", LedgerAudit.Of("e/0", [File(1, [.. first, first[2], first[3]])], null).Violations[0], StringComparison.Ordinal);
    }

    /// <summary>Memory that runs out after a takeover: the step was recorded whole and is done again one sample at a time, with other last bits.</summary>
    [Fact]
    public void StepDoneAgainOneSampleAtATime_MayDiffer_AndOnlyInThatOrder()
    {
        var whole = Records(1);
        var lean = Chain([.. whole.Take(2), .. whole.Skip(2).Select(record => record with { Epoch = 2, Lean = true, ParametersSha256 = "lean " + record.Step })]);
        var audit = LedgerAudit.Of("e/0", [File(1, whole.Take(3)), File(2, lean.Skip(2))], new CommittedHead(3, lean[^1].Sha256, true, "test"));
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        Assert.Equal((1, 3), (audit.Redone, audit.Steps));

        // Both one sample at a time: equal tokens have equal bits again.
        var other = Chain([.. lean.Take(3), lean[3] with { Epoch = 3, ParametersSha256 = "other" }]);
        Assert.Contains("gave other parameters", Assert.Single(LedgerAudit.Of("e/0", [File(1, whole.Take(2)), File(2, lean.Skip(2)), File(3, other.Skip(3))], null).Violations), StringComparison.Ordinal);
        // Never the other way round, in the same step or in the next.
        var back = Chain([.. lean.Take(3), lean[3] with { Epoch = 3, Lean = null }]);
        Assert.Contains("as if it had not been", LedgerAudit.Of("e/0", [File(1, whole.Take(2)), File(2, lean.Skip(2)), File(3, back.Skip(3))], null).Violations[0], StringComparison.Ordinal);
        var next = Chain([.. lean.Take(3), lean[3] with { Lean = null }]);
        Assert.Contains("although step 2 was", Assert.Single(LedgerAudit.Of("e/0", [File(1, whole.Take(2)), File(2, next.Skip(2))], null).Violations), StringComparison.Ordinal);
    }

    [Fact]
    public void LastLineCutOffByACrash_IsNoViolation_AndNeitherIsTheStepThatWasBeingCommitted()
    {
        var whole = Ledger(1);
        var cut = With(whole, 3, whole.Lines[3][..40]);
        var head = new CommittedHead(2, LedgerRecord.Parse(whole.Lines[2])!.Sha256, false, "test");
        Assert.True(LedgerAudit.Of("e/0", [cut], head).Holds);
        Assert.True(LedgerAudit.Of("e/0", [whole], head).Holds);
        Assert.False(LedgerAudit.Of("e/0", [cut], Head(whole)).Holds);
    }

    [Fact]
    public void Mismatch_IsAViolationThatNamesTheWorker()
    {
        var records = Records(1);
        var forged = Chain([records[0], records[1] with { Contributions = [.. records[1].Contributions, Contribution(1) with { Outcome = ContributionOutcome.Mismatch, Worker = "bad/cpu:0" }] }, .. records.Skip(2)]);
        Assert.Contains("shard 1: bad/cpu:0 sent other contents", Assert.Single(LedgerAudit.Of("e/0", [File(1, forged)], null).Violations), StringComparison.Ordinal);
    }

    private static LedgerFile Ledger(long epoch) => File(epoch, Records(epoch));

    private static LedgerFile File(long epoch, IEnumerable<LedgerRecord> records) => new(LedgerChain.FileOf(epoch, 0), [.. records.Select(record => record.ToLine())]);

    private static LedgerFile With(LedgerFile file, int line, string text) => file with { Lines = [.. file.Lines.Select((old, i) => i == line ? text : old)] };

    private static CommittedHead Head(LedgerFile file) => new(Steps, LedgerRecord.Parse(file.Lines[^1])!.Sha256, true, "test");

    private static List<LedgerRecord> Records(long epoch) => Chain([.. Enumerable.Range(0, Steps + 1).Select(step => new LedgerRecord
    {
        Run = "e/0",
        Step = step,
        Epoch = epoch,
        Plan = step == 0 ? new LedgerPlan("{}", "spec", "model", Steps, Shards, 4) : null,
        Contributions = step == 0 ? [] : [Contribution(0), Contribution(1)],
        Weight = step == 0 ? 0 : Shards * 4,
        Metrics = new Dictionary<string, double> { ["loss"] = 1.0 / (step + 1), ["gradientNorm"] = double.NaN },
        ParametersSha256 = "parameters " + step,
        Previous = "",
    })]);

    private static LedgerContribution Contribution(int shard) => new(shard, 1, ContributionOutcome.Accepted, "contents " + shard, 4, "silo-0/cpu:0");

    private static List<LedgerRecord> Chain(IReadOnlyList<LedgerRecord> records)
    {
        var chain = new List<LedgerRecord>();
        foreach (var record in records)
            chain.Add((record with { Previous = chain.Count == 0 ? "" : chain[^1].Sha256! }).Sealed());
        return chain;
    }
}
