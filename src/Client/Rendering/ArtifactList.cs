using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>The files of an experiment that are on this machine.</summary>
internal static class ArtifactList
{
    public static void Show(ClientContext context, ExperimentSnapshot experiment)
    {
        var best = experiment.Trials.FirstOrDefault(trial => trial.Index == experiment.BestTrial);
        var folder = best?.ArtifactFolder is { } trial ? Path.Combine(experiment.ArtifactFolder, trial) : null;
        List<(string Title, string? Path)> files =
        [
            ("Before and after", folder is null ? null : Path.Combine(folder, "before-after.png")),
            ("Loss", folder is null ? null : Path.Combine(folder, "loss.svg")),
            ("Model", folder is null ? null : Path.Combine(folder, "model")),
            ("Report", Path.Combine(experiment.ArtifactFolder, "report.json")),
        ];
        foreach (var (title, path) in files)
        {
            if (path is not null && Path.Exists(path)) context.Terminal.Line($"{title,-16}  {Markup.Escape(context.Short(path))}");
        }
    }
}
