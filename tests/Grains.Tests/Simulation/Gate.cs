namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>Lets one in at a time, in order of arrival, on the arriver's own turns.</summary>
internal sealed class Gate
{
    private readonly Queue<TaskCompletionSource> _waiting = new();
    private bool _taken;

    public async Task EnterAsync(CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (!_taken)
        {
            _taken = true;
            return;
        }
        var place = new TaskCompletionSource();
        _waiting.Enqueue(place);
        await using (cancellationToken.Register(() => place.TrySetCanceled(cancellationToken)))
            await place.Task;
    }

    public void Exit()
    {
        while (_waiting.TryDequeue(out var next))
            if (next.TrySetResult())
                return;
        _taken = false;
    }
}
