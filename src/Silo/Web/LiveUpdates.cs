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

    private static readonly SseItem<string> Opened = new("", "opened"), Changed = new("", "changed"), Ended = new("", "ended");

    /// <summary>An item whenever something happened, until the experiment has ended.</summary>
    public static async IAsyncEnumerable<SseItem<string>> OfExperiment(IExperimentGrain experiment, long after, TimeProvider time, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        yield return Opened;
        await using var events = experiment.WatchAsync(after, cancellationToken).GetAsyncEnumerator(cancellationToken);
        var next = events.MoveNextAsync().AsTask();
        while (await next)
        {
            yield return Changed;
            // What happens in the meantime is told of once.
            var pause = Task.Delay(Pause, time, cancellationToken);
            next = events.MoveNextAsync().AsTask();
            while (await Task.WhenAny(next, pause) == next && await next)
                next = events.MoveNextAsync().AsTask();
            await pause;
        }
        yield return Ended;
    }

    /// <summary>An item whenever an experiment was added, went on or ended.</summary>
    public static IAsyncEnumerable<SseItem<string>> OfList(IExperimentDirectoryGrain directory, TimeProvider time, CancellationToken cancellationToken) =>
        Looking(() => directory.ListAsync(0, 50, cancellationToken), static (a, b) => a.SequenceEqual(b), time, cancellationToken);

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
