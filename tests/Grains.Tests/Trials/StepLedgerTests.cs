using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Trials;
using CsCheck;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class StepLedgerTests
{
    private static readonly DateTimeOffset Start = DateTimeOffset.UnixEpoch;

    [Fact]
    public void TryLease_PrefersShardsThatAreAtHome_AndTakesOthersRatherThanNone()
    {
        var now = DateTimeOffset.UnixEpoch;
        var ledger = new StepLedger("a/0", 1, WorkKind.Gradient, 3, 4) { Homes = ["one", "two", "gone", "two"] };
        var leased = new List<int>();
        foreach (var worker in new[] { "two/cpu:0", "two/cpu:0", "two/cpu:0", "one/cpu:0" })
        {
            Assert.True(ledger.TryLease(worker, now, now, out var token));
            leased.Add(token.Shard);
        }
        Assert.Equal([1, 3, 0, 2], leased);
        Assert.False(ledger.TryLease("two/cpu:0", now, now, out _));
    }

    [Fact]
    public void Contribute_CountsEachShardOnce()
    {
        var ledger = New(2);
        Assert.True(ledger.TryLease("a", Start, Start.AddSeconds(5), out var first));
        Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(first, "x"));
        Assert.Equal(ContributionOutcome.Duplicate, ledger.Contribute(first, "x"));
        Assert.Equal(ContributionOutcome.Mismatch, ledger.Contribute(first, "y"));
        Assert.Equal(1, ledger.Contributed);
        Assert.Equal("x", ledger.HashOf(0));
    }

    [Fact]
    public void Contribute_OfAnotherTrialEpochKindStepOrUnleasedAttempt_IsStale()
    {
        var ledger = New(2);
        ledger.TryLease("a", Start, Start.AddSeconds(5), out var token);
        foreach (var stale in new[] { token with { Trial = "e/1" }, token with { Epoch = 2 }, token with { Kind = WorkKind.Save }, token with { Step = 8 }, token with { Attempt = 2 }, token with { Attempt = 0 }, token with { Shard = 2 }, token with { Shard = -1 } })
            Assert.Equal(ContributionOutcome.Stale, ledger.Contribute(stale, "x"));
        Assert.Equal(0, ledger.Contributed);
    }

    [Fact]
    public void RoundAfterOneThatWasDropped_TakesNothingOfIt()
    {
        // Of the same step under the next epoch, as when memory ran out.
        var ledger = new StepLedger("e/0", 2, WorkKind.Gradient, 7, 1);
        Assert.True(ledger.TryLease("a", Start, Start.AddSeconds(5), out var token));
        Assert.Equal((2L, 1, 0), (token.Epoch, token.Attempt, ledger.Reissued));
        Assert.Equal(ContributionOutcome.Stale, ledger.Contribute(token with { Epoch = 1 }, "x"));
        Assert.True(ledger.Release(token));
        Assert.True(ledger.TryLease("a", Start, Start.AddSeconds(5), out _));
        Assert.Equal(1, ledger.Reissued);
        Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(token, "x"));
    }

    [Fact]
    public void ExpiredLease_IsGivenToAnother_AndTheFirstResultWinsWhoeverSendsIt()
    {
        var ledger = New(1);
        ledger.TryLease("slow", Start, Start.AddSeconds(5), out var slow);
        Assert.Empty(ledger.Expire(Start.AddSeconds(4)));
        Assert.Equal(slow, Assert.Single(ledger.Expire(Start.AddSeconds(5))));
        Assert.True(ledger.TryLease("fast", Start, Start.AddSeconds(10), out var fast));
        Assert.Equal(2, fast.Attempt);
        Assert.Equal(1, ledger.Reissued);
        Assert.False(ledger.Renew(slow, "slow", Start.AddSeconds(20)));
        Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(slow, "x"));
        Assert.Equal(ContributionOutcome.Duplicate, ledger.Contribute(fast, "x"));
    }

    [Fact]
    public void ExpiredLease_ThatNobodyTook_ComesBackToLife()
    {
        var ledger = New(1);
        ledger.TryLease("a", Start, Start.AddSeconds(5), out var token);
        ledger.Expire(Start.AddSeconds(5));
        Assert.True(ledger.Renew(token, "a", Start.AddSeconds(10)));
        Assert.False(ledger.TryLease("b", Start, Start.AddSeconds(10), out _));
    }

    [Fact]
    public void TakeOver_PicksTheOldestOfAnotherWorker_AndTheFirstResultWins()
    {
        var ledger = New(2);
        ledger.TryLease("a", Start, Start.AddSeconds(50), out var oldest);
        ledger.TryLease("a", Start.AddSeconds(1), Start.AddSeconds(50), out _);
        Assert.False(ledger.TryTakeOver("a", Start.AddSeconds(9), Start.AddSeconds(10), Start.AddSeconds(50), out _));
        Assert.False(ledger.TryTakeOver("b", Start.AddSeconds(-1), Start.AddSeconds(10), Start.AddSeconds(50), out _));
        Assert.True(ledger.TryTakeOver("b", Start.AddSeconds(9), Start.AddSeconds(10), Start.AddSeconds(50), out var second));
        Assert.Equal(oldest with { Attempt = 2 }, second);
        Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(oldest, "x"));
        Assert.Equal(ContributionOutcome.Duplicate, ledger.Contribute(second, "x"));
    }

    /// <summary>The ledger says of a stale contribution what it was, and why it did not count.</summary>
    [Fact]
    public void StaleContribution_IsKeptWithItsTokenAndWhatIsWrongWithIt()
    {
        var ledger = New(2);
        ledger.TryLease("a", Start, Start.AddSeconds(5), out var token);
        ShardToken[] stale =
        [
            token with { Trial = "e/1" }, token with { Epoch = 9 }, token with { Kind = WorkKind.Save }, token with { Step = 6 }, token with { Shard = 2 }, token with { Attempt = 2 }, token with { Attempt = 0 }, token with { Shard = 1 },
        ];
        foreach (var other in stale)
        {
            Assert.False(ledger.Wants(other));
            Assert.Equal(ContributionOutcome.Stale, ledger.Contribute(other, "x", 4, "b"));
        }
        Assert.Equal(
            [StaleReason.Run, StaleReason.Coordinator, StaleReason.Work, StaleReason.Step, StaleReason.Shard, StaleReason.Attempt, StaleReason.Attempt, StaleReason.Attempt],
            ledger.Contributions.Select(contribution => contribution.Stale!.Value));
        Assert.Equal(stale.Select(other => other.ToString()), ledger.Contributions.Select(contribution => contribution.Token));
        Assert.True(ledger.Wants(token));
        Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(token, "x"));
        Assert.Equal((null, null), (ledger.Contributions[^1].Stale, ledger.Contributions[^1].Token));
        // As it stands in a line, and comes back; a good one is written as ever.
        var record = new LedgerRecord { Run = "e/0", Step = 8, Epoch = 1, Contributions = ledger.Contributions, Weight = 1, Metrics = new Dictionary<string, double>(), ParametersSha256 = "p", Previous = "" }.Sealed();
        Assert.Contains("\"stale\":\"coordinator\",\"token\":\"e/0 Gradient step 7 shard 0 attempt 1 epoch 9\"", record.ToLine(), StringComparison.Ordinal);
        Assert.EndsWith("\"worker\":\"\"}],\"weight\":1,\"metrics\":{},\"parametersSha256\":\"p\",\"previous\":\"\",\"sha256\":\"" + record.Sha256 + "\"}", record.ToLine(), StringComparison.Ordinal);
        Assert.Equal(ledger.Contributions, LedgerRecord.Parse(record.ToLine())!.Contributions);
    }

    [Fact]
    public void Straggling_NeedsHalfOfTheShards_AndIsFarBeyondTheirMedian()
    {
        var lease = TimeSpan.FromSeconds(1);
        Assert.Null(ShardScheduling.Straggling([], 4, lease));
        Assert.Null(ShardScheduling.Straggling([lease], 4, lease));
        Assert.Equal(TimeSpan.FromSeconds(2), ShardScheduling.Straggling([lease / 10, lease / 10], 4, lease));
        Assert.Equal(TimeSpan.FromSeconds(12), ShardScheduling.Straggling([3 * lease, lease, 9 * lease], 4, lease));
        Assert.Equal(TimeSpan.FromSeconds(6), ShardScheduling.Straggling([3 * lease, lease, 9 * lease], 4, lease, 2));
    }

    [Fact]
    public void Stuck_IsFarBeyondWhatShardsTake_AndPatientBeforeThatIsKnown()
    {
        var minute = TimeSpan.FromMinutes(1);
        Assert.Equal(30 * minute, ShardScheduling.Stuck([], 1));
        Assert.Equal(30 * minute, ShardScheduling.Stuck([minute], 4));
        Assert.Equal(minute, ShardScheduling.Stuck([minute / 60, minute / 60], 4));
        Assert.Equal(100 * minute, ShardScheduling.Stuck([10 * minute, 10 * minute, 20 * minute], 4));
    }

    [Fact]
    public void Release_OpensTheShardOnlyForTheHolder()
    {
        var ledger = New(1);
        ledger.TryLease("a", Start, Start.AddSeconds(5), out var token);
        Assert.False(ledger.Release(token with { Attempt = 2 }));
        Assert.True(ledger.Release(token));
        Assert.False(ledger.Release(token));
        Assert.True(ledger.TryLease("b", Start, Start.AddSeconds(5), out _));
    }

    /// <summary>Whatever happens in whatever order: no shard counts twice, no shard is lost, and a ledger that is worked off is complete.</summary>
    [Fact]
    public void AnySequenceOfEvents_KeepsEveryShardCountedExactlyOnce() =>
        Gen.Select(Gen.Int[1, 6], Gen.Select(Gen.Int[0, 4], Gen.Int[0, 30]).List[0, 80]).Sample((shards, events) =>
        {
            var ledger = New(shards);
            var leased = new List<ShardToken>();
            var accepted = new HashSet<int>();
            var now = Start;
            foreach (var (kind, pick) in events)
            {
                now = now.AddSeconds(1);
                switch (kind)
                {
                    case 0 or 1:
                        if (ledger.TryLease("w", now, now.AddSeconds(3), out var token))
                        {
                            Assert.DoesNotContain(token.Shard, accepted);
                            leased.Add(token);
                        }
                        break;
                    case 2 when leased.Count > 0:
                        var sent = leased[pick % leased.Count];
                        var outcome = ledger.Contribute(sent, "same");
                        Assert.Equal(accepted.Add(sent.Shard) ? ContributionOutcome.Accepted : ContributionOutcome.Duplicate, outcome);
                        break;
                    case 3 when leased.Count > 0:
                        ledger.Release(leased[pick % leased.Count]);
                        break;
                    case 4:
                        ledger.Expire(now);
                        break;
                }
                Assert.Equal(accepted.Count, ledger.Contributed);
            }
            ledger.Expire(now.AddSeconds(100));
            while (ledger.TryLease("last", now, now, out var token))
                Assert.Equal(ContributionOutcome.Accepted, ledger.Contribute(token, "same"));
            Assert.True(ledger.IsComplete);
        });

    private static StepLedger New(int shards) => new("e/0", 1, WorkKind.Gradient, 7, shards);
}
