using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.LocalCluster;

/// <summary>Keeps a second <c>adpm run</c> off an output folder. The kernel lets go at any death.</summary>
internal sealed class FolderLock : IDisposable
{
    private readonly FileStream _file;

    private FolderLock(FileStream file) => _file = file;

    public static FolderLock Take(string folder, string shortName)
    {
        try
        {
            Directory.CreateDirectory(folder);
            return new FolderLock(new FileStream(Path.Combine(folder, "adpm.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose));
        }
        catch (UnauthorizedAccessException e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"The output folder '{shortName}' cannot be written: {e.Message}", "Name another one with --output.", e);
        }
        catch (IOException e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"The output folder '{shortName}' is in use by another 'adpm run', or cannot be made: {e.Message}", "Wait for it, or name another folder with --output.", e);
        }
    }

    public void Dispose() => _file.Dispose();
}
