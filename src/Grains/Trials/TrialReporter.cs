using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

/// <summary>Tells the experiment what happened in a trial: at least once, in order, without ever holding up a step.</summary>
internal sealed partial class TrialReporter(ITrialReportsGrain experiment, TrialStore store, List<StepRecord> steps, bool fresh, TimeProvider time, ILogger logger)
{
    /// <summary>Keeps a report in kilobytes however far behind the experiment is.</summary>
    private const int MostSteps = 100;

    private readonly List<ShardReissue> _reissues = [];
    private long _number;
    private int _acknowledged = fresh ? 0 : -1;
    private CommittedTrial? _offered;
    private Task? _sending;
    private bool _again;

    public void Step(StepRecord record) => steps.Add(record);

    public void Reissue(ShardReissue reissue)
    {
        _reissues.Add(reissue);
        _offered = null;
    }

    public IReadOnlyList<StepRecord> Steps => steps;

    /// <summary>Sends what is new soon, in the background.</summary>
    public void Kick(CancellationToken cancellationToken)
    {
        if (ReferenceEquals(_offered, store.Committed))
            return;
        _again = true;
        if (_sending is null || _sending.IsCompleted)
            _sending = SendWhileNewAsync(cancellationToken);
    }

    /// <summary>Returns once the experiment has everything.</summary>
    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        do
        {
            Kick(cancellationToken);
            await _sending!;
        }
        while (_acknowledged < store.Committed.Step || _again || !ReferenceEquals(_offered, store.Committed));
    }

    private async Task SendWhileNewAsync(CancellationToken cancellationToken)
    {
        var failures = 0;
        while (_again)
        {
            _again = false;
            // The first report of one that goes on carries no steps: its answer says which the experiment has.
            var from = _acknowledged;
            var committed = _offered = store.Committed;
            var report = new TrialReport
            {
                Snapshot = committed.Snapshot,
                Steps = from < 0 ? [] : [.. steps.Where(step => step.Step > from).Take(MostSteps)],
                Reissues = [.. _reissues],
                Epoch = committed.Epoch,
                Number = ++_number,
                Totals = committed.Totals,
                ModelSha256 = committed.ModelSha256,
                Looks = committed.Looks,
                Attempt = committed.Attempt,
            };
            try
            {
                _acknowledged = await experiment.ReportAsync(report).WaitAsync(cancellationToken);
                _reissues.RemoveRange(0, report.Reissues.Count);
                _again |= _acknowledged < store.Committed.Step;
                // One that takes nothing of what it is sent is not asked again at once.
                failures = _again && from >= 0 && _acknowledged <= from ? failures + 1 : 0;
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                LogNotDelivered(logger, e.Message);
                (_again, failures) = (true, failures + 1);
            }
            if (failures > 0)
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(5000, 50 << Math.Min(failures, 7))), time, cancellationToken);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The experiment did not take a report; it is sent again: {Reason}")]
    private static partial void LogNotDelivered(ILogger logger, string reason);
}
