using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Storage;

/// <summary>Where results of experiments go: folders, or a bucket. A trial's results count from the moment their manifest is there, and it comes last.</summary>
internal interface IArtifacts
{
    /// <summary>Place of an experiment's results as people are told of it: a folder, or an address in a bucket.</summary>
    /// <exception cref="ArgumentException">This is no experiment's id.</exception>
    string PlaceOf(string experiment);

    /// <summary>Place of a trial's results.</summary>
    string PlaceOf(string experiment, int trial);

    /// <summary>Has the results of a trial written to a folder that is empty, on the calling thread, and takes them from there. Attempts may race: equal work gives equal files.</summary>
    /// <param name="place">What <see cref="PlaceOf(string, int)"/> said, perhaps on another silo.</param>
    /// <param name="run">What the results follow from.</param>
    /// <param name="fill">Writes the results; not called when they are known to be there.</param>
    /// <returns>What is left to do before they count, and needs no device: to be called once, on a thread that may wait for the disk.</returns>
    Func<CancellationToken, Task> Write(string place, string run, Action<string> fill);

    /// <summary>Replaces an experiment's report.</summary>
    Task WriteReportAsync(string experiment, byte[] json);

    /// <summary>An experiment's report; null before it is written.</summary>
    Task<byte[]?> ReadReportAsync(string experiment, CancellationToken cancellationToken);

    /// <summary>Files of an experiment's complete trials, relative to the experiment's place and sorted, by <see cref="ResultNames.OfTrial"/>.</summary>
    Task<ILookup<string, string>> FilesAsync(string experiment);

    /// <summary>Files of a complete trial, without the manifest itself; empty while it is not complete.</summary>
    Task<IReadOnlyList<ManifestFile>> ManifestAsync(string experiment, int trial, CancellationToken cancellationToken);

    /// <summary>Opens a file of a trial's manifest; null when it is gone.</summary>
    /// <param name="experiment">Id.</param>
    /// <param name="trial">Index.</param>
    /// <param name="file">From the trial's manifest.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    Task<Stream?> OpenAsync(string experiment, int trial, ManifestFile file, CancellationToken cancellationToken);
}

/// <summary>Results could not be written or read. The message is one sentence for people, without secrets.</summary>
/// <param name="message">What was wrong and what to do.</param>
/// <param name="inner">Cause.</param>
public sealed class ArtifactException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Whether waiting may help: a connection was lost, a server was busy.</summary>
    public bool IsPassing { get; init; }
}
