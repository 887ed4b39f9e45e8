using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Progress;

/// <summary>A line of JSON an event, on standard output.</summary>
internal sealed class JsonProgress(Terminal terminal) : IProgressReport
{
    public bool ShowsState => false;

    public void Refresh(ExperimentSnapshot experiment)
    {
    }

    public void Happened(ExperimentEvent happened) => terminal.WriteRaw(ClientJson.Line(EventDocument.Of(happened)));

    public void Notice(string text) => terminal.Note(Markup.Escape(text));

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
