using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>Tells somebody how an experiment goes.</summary>
internal interface IProgressReport : IAsyncDisposable
{
    /// <summary>Whether it shows what no event tells, such as the phase of a trial: then <see cref="Refresh"/> is called now and then.</summary>
    bool ShowsState { get; }

    /// <summary>The whole state: at the start, and whenever trials begin or end.</summary>
    void Refresh(ExperimentSnapshot experiment);

    /// <summary>Something happened.</summary>
    void Happened(ExperimentEvent happened);

    /// <summary>Something about the connection or the processes, not the experiment; plain text.</summary>
    void Notice(string text);
}
