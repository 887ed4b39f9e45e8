using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>Tells somebody how an experiment goes.</summary>
internal interface IProgressReport : IAsyncDisposable
{
    /// <summary>The whole state: at the start, and whenever trials begin or end.</summary>
    void Refresh(ExperimentSnapshot experiment);

    /// <summary>Something happened.</summary>
    void Happened(ExperimentEvent happened);

    /// <summary>Something about the connection or the processes, not the experiment; plain text.</summary>
    void Notice(string text);
}
