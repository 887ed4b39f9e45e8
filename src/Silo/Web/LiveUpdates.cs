using System.Globalization;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Silo.Web;

/// <summary>Tells browsers that what they show has changed, and nothing else: they ask for the page again.</summary>
internal static class LiveUpdates
{
    /// <summary>Between two tellings: nobody reads faster, and a step of a small model takes less.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    /// <summary>Between two looks at lists, which have no events.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(2);

    private static readonly SseItem<string> Opened = new("", "opened"), Changed = new("", "changed");

    /// <summary>Tells a browser to ask again after a while: what has ended may be tried again, or be given more trials.</summary>
    private static readonly SseItem<string> Ended = new("", "ended") { ReconnectionInterval = TimeSpan.FromSeconds(10) };

    /// <summary>An item whenever something happened, each with the number of the newest event, until the experiment has ended.</summary>
    public static async IAsyncEnumerable<SseItem<string>> OfExperiment(IExperimentGrain experiment, long after, TimeProvider time, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        yield return Opened;
        await using var events = experiment.WatchAsync(after, cancellationToken).GetAsyncEnumerator(cancellationToken);
        var (next, newest) = (events.MoveNextAsync().AsTask(), after);
        while (await next)
        {
            newest = events.Current.Sequence;
            yield return Changed with { EventId = newest.ToString(CultureInfo.InvariantCulture) };
            // What happens in the meantime is told of once.
            var pause = Task.Delay(Pause, time, cancellationToken);
            next = events.MoveNextAsync().AsTask();
            while (await Task.WhenAny(next, pause) == next && await next)
            {
                newest = events.Current.Sequence;
                next = events.MoveNextAsync().AsTask();
            }
            await pause;
        }
        // Or the browser would ask for the last of them again and again.
        yield return Ended with { EventId = newest.ToString(CultureInfo.InvariantCulture) };
    }

    /// <summary>An item whenever an experiment of a page of the list was added, went on or ended.</summary>
    /// <param name="directory">List.</param>
    /// <param name="skip">Experiments before the page.</param>
    /// <param name="take">Experiments of the page, or those among which it was looked.</param>
    /// <param name="time">Clock.</param>
    /// <param name="cancellationToken">The browser is gone.</param>
    public static IAsyncEnumerable<SseItem<string>> OfList(IExperimentDirectoryGrain directory, int skip, int take, TimeProvider time, CancellationToken cancellationToken) =>
        Looking(() => directory.ListAsync(skip, take, cancellationToken), static (a, b) => a.Select(Seen).SequenceEqual(b.Select(Seen)), time, cancellationToken);

    /// <summary>What can change of an experiment; labels never do, and are another object at every look.</summary>
    private static ExperimentSummary Seen(ExperimentSummary experiment) => experiment with { Labels = null };

    /// <summary>An item whenever a worker does something else.</summary>
    public static IAsyncEnumerable<SseItem<string>> OfWorkers(IWorkerDirectoryGrain directory, TimeProvider time, CancellationToken cancellationToken) =>
        Looking(() => directory.DescribeAsync(cancellationToken), static (a, b) => a.Count == b.Count && a.Zip(b).All(pair => pair.First with { Work = [] } == pair.Second with { Work = [] } && pair.First.Work.SequenceEqual(pair.Second.Work)), time, cancellationToken);

    private static async IAsyncEnumerable<SseItem<string>> Looking<T>(Func<Task<T>> look, Func<T, T, bool> same, TimeProvider time, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        yield return Opened;
        var seen = await look();
        using var timer = new PeriodicTimer(Look, time);
        while (await timer.WaitForNextTickAsync(cancellationToken))
        {
            var now = await look();
            if (!same(seen, now))
                yield return Changed;
            seen = now;
        }
    }
}
