using Orleans.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>The store of states does not answer, or refuses for a reason of its own. It says nothing of the trial, which waits until it is back.</summary>
internal sealed class StorageAwayException(Exception inner) : Exception($"The store of states does not do what was asked: {inner.Message}", inner)
{
    /// <summary>Asks the store. What it says of the contents, and of who may write, comes as it is.</summary>
    public static async Task AskAsync(Func<Task> store)
    {
        try
        {
            await store();
        }
        catch (Exception e) when (e is not InconsistentStateException && !IsOfTheContents(e))
        {
            throw new StorageAwayException(e);
        }
    }

    /// <summary>Whether an error is the store's or the disk's, and passes with it: a server that is started anew, a share that is away, a disk without room.</summary>
    public static bool Is(Exception error) => error is StorageAwayException
        || (error is IOException and not (FileNotFoundException or DirectoryNotFoundException or PathTooLongException or EndOfStreamException));

    /// <summary>How long to wait after so many in a row: 1 s, doubled up to 15.</summary>
    public static TimeSpan Pause(int times) => TimeSpan.FromSeconds(Math.Min(15, Math.Pow(2, Math.Min(times, 5) - 1)));

    // Providers wrap what the serializer throws.
    private static bool IsOfTheContents(Exception error) => error is InvalidDataException || (error.InnerException is { } inner && IsOfTheContents(inner));
}
