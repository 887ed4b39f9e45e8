using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Where things lie in the data folder. Silos of one cluster see the same folder: one disk, or a shared volume.</summary>
/// <param name="data">Absolute path.</param>
internal sealed class SiloFolders(string data)
{
    public string Data { get; } = data;

    /// <summary>State of grains, for the file provider.</summary>
    public string State { get; } = Path.Combine(data, "state");

    /// <summary>What workers have begun and not ended: a slate for each worker of each process.</summary>
    public string Begun { get; } = Path.Combine(data, "begun");

    /// <summary>While this file is there no version of parameters is removed, so that a database that was saved and a folder that is saved after it fit: see docs/operations.md.</summary>
    public string Hold { get; } = Path.Combine(data, "hold-versions");

    /// <summary>Results of an experiment.</summary>
    public string Experiment(string experiment) => Path.Combine(Data, "experiments", Safe(experiment));

    /// <summary>Results of a trial.</summary>
    public string TrialArtifacts(string experiment, int index) => Path.Combine(Experiment(experiment), ResultNames.OfTrial(index));

    /// <summary>Working files of a trial's coordinator.</summary>
    public string TrialWork(string experiment, int index) => Path.Combine(Data, "trials", Safe(experiment), index.ToString(CultureInfo.InvariantCulture));

    /// <summary>An experiment's id as a name in folders.</summary>
    /// <exception cref="ArgumentException">It is none.</exception>
    public static string Safe(string id) =>
        id.Length is > 0 and <= 128 && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.') && id[0] != '.'
            ? id
            : throw new ArgumentException($"'{id}' is not an experiment id. Use up to 128 letters, digits, '-', '_' and '.', not starting with '.'.");
}
