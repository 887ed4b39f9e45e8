namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>The one thread of a simulated process: runs its turns in order. A process that was killed runs nothing any more, wherever it was: every await is a place to die at.</summary>
internal sealed class Turns : TaskScheduler
{
    private readonly Queue<Task> _queue = new();
    private readonly int _thread = Environment.CurrentManagedThreadId;

    public bool Dead { get; private set; }

    public bool HasNext => _queue.Count > 0;

    public void Kill()
    {
        Dead = true;
        _queue.Clear();
    }

    public void RunNext() => TryExecuteTask(_queue.Dequeue());

    /// <summary>Starts asynchronous work in this process. Of a process that dies, nothing is heard again.</summary>
    public Task<T> Start<T>(Func<Task<T>> work) => Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.DenyChildAttach, this).Unwrap();

    public Task Start(Func<Task> work) => Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.DenyChildAttach, this).Unwrap();

    protected override void QueueTask(Task task)
    {
        // A turn that another thread brings has no place in the order, and the queue no lock.
        if (Environment.CurrentManagedThreadId != _thread)
            Environment.FailFast($"{task} comes from another thread.\n{Environment.StackTrace}");
        if (!Dead)
            _queue.Enqueue(task);
    }

    // Inlining would hide an await from the kills.
    protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) => false;

    protected override IEnumerable<Task> GetScheduledTasks() => _queue;
}
