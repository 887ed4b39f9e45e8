namespace AdjointDpm.Grains.Experiments;

// Results for those who do not see where they lie.
internal sealed partial class ExperimentRun
{
    /// <summary>Bytes before a part that are read over where a stream cannot seek, as one from a bucket.</summary>
    private const long MostSkipped = 64L << 20;

    public async Task<IReadOnlyList<ResultFile>> FilesAsync(int trial, CancellationToken cancellationToken) =>
        _trials is null || (uint)trial >= (uint)_trials.Count ? [] : [.. (await artifacts.ManifestAsync(Id, trial, cancellationToken)).Select(file => new ResultFile(file.Path, file.Length, file.Sha256))];

    public async Task<ResultPart?> FileAsync(int trial, string sha256, long offset, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        if (_trials is null || (uint)trial >= (uint)_trials.Count)
            return null;
        // By content, and only what the manifest lists: no path comes from outside.
        var file = (await artifacts.ManifestAsync(Id, trial, cancellationToken)).FirstOrDefault(file => file.Sha256 == sha256);
        if (file is null || await artifacts.OpenAsync(Id, trial, file, cancellationToken) is not { } stream)
            return null;
        await using (stream)
            return await PartAsync(stream, offset, file.Length, cancellationToken);
    }

    public async Task<ResultPart?> ReportAsync(long offset, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        if (_trials is null || await artifacts.ReadReportAsync(Id, cancellationToken) is not { } report)
            return null;
        return new ResultPart(report.AsSpan((int)Math.Min(offset, report.Length), (int)Math.Clamp(report.Length - offset, 0, ResultPart.MostBytes)).ToArray(), report.Length);
    }

    private async Task<ResultPart> PartAsync(Stream stream, long offset, long length, CancellationToken cancellationToken)
    {
        if (stream.CanSeek)
        {
            stream.Seek(offset, SeekOrigin.Begin);
        }
        else if (offset > MostSkipped)
        {
            throw new ArgumentException($"The results of '{Id}' are in {artifacts.PlaceOf(Id)}; a file of {length} bytes is fetched from there with your bucket's own tool.");
        }
        else
        {
            var skipped = new byte[81920];
            for (var left = offset; left > 0;)
                left -= await stream.ReadAsync(skipped.AsMemory(0, (int)Math.Min(left, skipped.Length)), cancellationToken) is > 0 and var read ? read : throw new EndOfStreamException("A file of the results is shorter than its manifest says.");
        }
        var bytes = new byte[Math.Clamp(length - offset, 0, ResultPart.MostBytes)];
        await stream.ReadExactlyAsync(bytes, cancellationToken);
        return new ResultPart(bytes, length);
    }
}
