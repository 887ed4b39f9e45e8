namespace AdjointDpm.Grains.Telemetry;

/// <summary>A trial whose coordinator lives on this silo: what gauges tell of it until it is disposed.</summary>
internal sealed class LiveTrial(string experiment, int index, Action<LiveTrial> ended) : IDisposable
{
    private volatile LiveTrialValues? _values;

    public string Experiment { get; } = experiment;

    public string Index { get; } = index.ToString(System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>As of its newest commit; null before it. Read by whoever scrapes, while the trial goes on.</summary>
    public LiveTrialValues? Values => _values;

    public void Show(LiveTrialValues values) => _values = values;

    public void Dispose() => ended(this);
}

/// <summary>What is committed of a trial.</summary>
/// <param name="Metrics">Its metrics, in a dictionary that nobody changes any more.</param>
/// <param name="Step">Steps committed.</param>
/// <param name="Steps">Steps planned.</param>
/// <param name="Epoch">Number of its coordinator.</param>
/// <param name="LearningRate">Of the optimiser.</param>
/// <param name="At">When it was committed.</param>
internal sealed record LiveTrialValues(IReadOnlyDictionary<string, double> Metrics, int Step, int Steps, long Epoch, double LearningRate, DateTimeOffset At);

/// <summary>An experiment that this silo owns: what gauges tell of it until it is disposed.</summary>
internal sealed class LiveExperiment(string id, Action<LiveExperiment> ended) : IDisposable
{
    private volatile LiveExperimentValues? _values;

    public string Id { get; } = id;

    public LiveExperimentValues? Values => _values;

    public void Show(LiveExperimentValues values) => _values = values;

    public void Dispose() => ended(this);
}

/// <param name="Trials">Number of trials by state.</param>
/// <param name="Evaluations">Of the network, so far.</param>
/// <param name="Metric">Name of the objective.</param>
/// <param name="Best">Best number of it; null while no trial has one.</param>
internal sealed record LiveExperimentValues(IReadOnlyDictionary<string, int> Trials, long Evaluations, string Metric, double? Best);
