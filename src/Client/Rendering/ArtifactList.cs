using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>The files of an experiment that are on this machine, or where they are in a bucket.</summary>
internal static class ArtifactList
{
    /// <summary>Whether results are not in a folder but in a bucket, such as s3://results/experiments/x.</summary>
    public static bool IsAddress(string place) => place.Contains("://", StringComparison.Ordinal);

    public static void Show(ClientContext context, ExperimentSnapshot experiment)
    {
        var best = experiment.Trials.FirstOrDefault(trial => trial.Index == experiment.BestTrial);
        if (IsAddress(experiment.ArtifactFolder))
        {
            // What is there is the silos' to know: this machine may have no right to look.
            if (best?.ArtifactFolder is { } place) Line("Best trial", place);
            Line("Report", experiment.ArtifactFolder + "/report.json");
            return;
        }

        var folder = best?.ArtifactFolder is { } trial ? Path.Combine(experiment.ArtifactFolder, trial) : null;
        List<(string Title, string? Path)> files =
        [
            ("Before and after", folder is null ? null : Path.Combine(folder, "before-after.png")),
            ("Loss", folder is null ? null : Path.Combine(folder, "loss.svg")),
            ("Model", folder is null ? null : Path.Combine(folder, "model")),
            ("Report", Path.Combine(experiment.ArtifactFolder, ResultNames.Report)),
            ("Page", Path.Combine(experiment.ArtifactFolder, "report.html")),
        ];
        foreach (var (title, path) in files)
        {
            if (path is not null && Path.Exists(path)) Line(title, path);
        }

        void Line(string title, string path) => context.Terminal.Line($"{title,-16}  {Markup.Escape(context.Short(path))}");
    }
}
