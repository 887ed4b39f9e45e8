using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>What <see cref="DeviceExecutor"/> does with a thread, on the turns of whoever comes: one piece of work at a time, in the order of the production queue.</summary>
internal sealed class SimDevice
{
    private readonly FairQueue<TaskCompletionSource> _queue = new();

    public bool IsBusy { get; private set; }

    public async Task EnterAsync(WorkShare share, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var place = new TaskCompletionSource();
        _queue.Add(share, place);
        if (!IsBusy)
            Next();
        await using (cancellationToken.Register(() => place.TrySetCanceled(cancellationToken)))
            await place.Task;
    }

    public void Exit(WorkShare share, TimeSpan used)
    {
        _queue.Used(share, used);
        Next();
    }

    private void Next()
    {
        IsBusy = true;
        while (_queue.TryTake(out _, out var next))
            if (next.TrySetResult())
                return;
        IsBusy = false;
    }
}
