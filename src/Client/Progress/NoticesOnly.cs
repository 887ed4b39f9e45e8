using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Progress;

/// <summary>For work whose steps are nobody's business: tells of the connection, and says once that it goes on.</summary>
internal sealed class NoticesOnly(Terminal terminal) : IProgressReport
{
    private bool _said;

    public bool ShowsState => false;

    public void Refresh(ExperimentSnapshot experiment)
    {
        if (_said || Words.Ended(experiment.Summary.State)) return;
        _said = true;
        terminal.Note("Proving the gradient …");
    }

    public void Happened(ExperimentEvent happened)
    {
    }

    public void Notice(string text) => terminal.Note(Markup.Escape(text));

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
