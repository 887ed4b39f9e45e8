namespace AdjointDpm.Grains.Hosting;

/// <summary>Where work goes that would hold up a grain: hashes and sums over whole models.</summary>
internal sealed class Background(TaskScheduler scheduler)
{
    public static Background ThreadPool { get; } = new(TaskScheduler.Default);

    public Task<T> RunAsync<T>(Func<T> work, CancellationToken cancellationToken = default) =>
        Task.Factory.StartNew(work, cancellationToken, TaskCreationOptions.DenyChildAttach, scheduler);
}
