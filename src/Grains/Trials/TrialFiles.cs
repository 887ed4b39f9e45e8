using System.Runtime.InteropServices;
using System.Text.Json;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>Files that only a trial's coordinator writes: versions of parameters and optimiser state by content, and the ledger.</summary>
/// <remarks>Everything is on the disk before the state that names it is committed, and removed only after a commit that does not.</remarks>
internal sealed partial class TrialFiles(IDisk disk, Background background, string folder, long epoch, string? hold = null)
{
    /// <summary>Where they lie.</summary>
    public string Folder => folder;

    /// <summary>Activation that writes: it names the files that only this one writes to.</summary>
    public long Epoch { get; set; } = epoch;

    /// <summary>Up to here a hash takes less time than another thread to begin with it.</summary>
    private const int HashedHere = 1 << 16;

    /// <param name="bytes">A version.</param>
    /// <param name="durability">When it must be on the disk.</param>
    /// <param name="sha">Its SHA-256, when it has been taken already.</param>
    /// <returns>Its SHA-256.</returns>
    public async Task<string> WriteAsync(byte[] bytes, Durability durability = Durability.Now, string? sha = null)
    {
        sha ??= bytes.Length <= HashedHere ? TensorReference.HashOf(bytes) : await background.RunAsync(() => TensorReference.HashOf(bytes));
        if (!disk.Exists(PathOf(sha)))
            await disk.WriteAsync(PathOf(sha), bytes, durability);
        _single.Add(sha);
        return sha;
    }

    /// <exception cref="InvalidDataException">The file is missing or was changed.</exception>
    public async Task<byte[]> ReadAsync(string sha) => await TryReadAsync(sha)
        ?? throw new InvalidDataException($"'{PathOf(sha)}' is missing, so the trial cannot go on from its last step. Restore the data folder or submit the experiment anew.");

    /// <summary>A version; null when it is not there.</summary>
    /// <exception cref="InvalidDataException">The file was changed.</exception>
    public async Task<byte[]?> TryReadAsync(string sha)
    {
        var bytes = await disk.ReadAsync(PathOf(sha));
        if (bytes is not null)
            _single.Add(sha);
        else if (await PartsAsync(sha) is { } parts)
            bytes = await JoinAsync(parts);
        else
            return null;
        var found = await background.RunAsync(() => TensorReference.HashOf(bytes));
        return found == sha ? bytes : throw new InvalidDataException($"'{PathOf(sha)}' was changed: its SHA-256 is {found}. Restore the data folder or submit the experiment anew.");
    }

    /// <summary>Adds a record to this activation's part of the ledger: on the disk before the state that names it.</summary>
    public Task AppendAsync(LedgerRecord record) => disk.AppendAsync(LedgerPath(LedgerChain.FileOf(Epoch, record.Step)), Line(record.ToLine()), Durability.BeforeTheNext);

    /// <summary>The ledger's files.</summary>
    public async Task<List<LedgerFile>> LedgerAsync()
    {
        var files = new List<LedgerFile>();
        foreach (var path in await disk.ListAsync(Path.Combine(folder, RunFolder.LedgerFolder)))
            files.Add(new LedgerFile(Path.GetFileName(path), RunFolder.LinesOf((await disk.ReadAsync(path))!)));
        return files;
    }

    /// <summary>Of a trial that begins: that nothing of a former one is here.</summary>
    /// <exception cref="InvalidDataException">There is; to add to its ledger would ruin both.</exception>
    public async Task RequireNoneAsync()
    {
        if ((await disk.ListAsync(LedgerPath(""))).Count > 0)
            throw NotOurs();
    }

    private InvalidDataException NotOurs() => new($"'{folder}' holds the ledger of a trial whose state is gone. Restore the state from its backup, or submit the experiment under another name; to begin anew under this one, remove that folder first.");

    /// <summary>The committed records, the plan first; what this activation recorded beyond them is taken back, because it will be done again.</summary>
    /// <exception cref="InvalidDataException">The ledger is not the one whose newest record was committed.</exception>
    public async Task<IReadOnlyList<LedgerRecord>> RecoverAsync(int committed, string? head)
    {
        // Before the plan not even step 0 is committed.
        if (head is null)
            committed = -1;
        var files = await LedgerAsync();
        foreach (var own in files.Where(file => LedgerChain.EpochOf(file.Name) == Epoch).ToArray())
        {
            var kept = own.Lines.TakeWhile(line => LedgerRecord.Parse(line) is { } record && record.Step <= committed).ToList();
            if (kept.Count == own.Lines.Count)
                continue;
            await disk.WriteAsync(LedgerPath(own.Name), kept.SelectMany(Line).ToArray());
            files[files.IndexOf(own)] = own with { Lines = kept };
        }
        var chain = LedgerChain.Of(files);
        // Of what was recorded and not committed there is one step, and before it perhaps the plan.
        if (head is null && chain.Records.Count > 2)
            throw NotOurs();
        chain.CutTo(committed);
        if (chain.Violations.Count > 0 || chain.Records.Count != committed + 1 || (chain.Records is [.., var last] ? last.Sha256 : null) != head)
            throw new InvalidDataException($"The ledger in '{LedgerPath("")}' is not the one that was committed with step {committed}{(chain.Violations.Count > 0 ? ": " + chain.Violations[0] : ".")} Restore the data folder or submit the experiment anew.");
        return chain.Records;
    }

    /// <summary>One JSON line per step, for the results. Holds only what is a function of the spec: an interrupted run gives the same file.</summary>
    /// <returns>Its path, which no other activation writes to.</returns>
    public async Task<string> WriteMetricsAsync(IEnumerable<StepRecord> steps)
    {
        var path = Path.Combine(folder, FormattableString.Invariant($"metrics-{Epoch:d8}.jsonl"));
        // Seen is enough: whoever goes on writes it again.
        await disk.WriteAsync(path, steps.SelectMany(step => Line(JsonSerializer.Serialize(step, FileGrainStorage.Json))).ToArray(), Durability.Seen);
        return path;
    }

    /// <summary>Where they lie in a trial's folder.</summary>
    public const string ProfileFolder = "profile";

    /// <summary>Adds what was observed of steps to this activation's file.</summary>
    public Task AppendProfilesAsync(IEnumerable<StepProfile> steps) =>
        disk.AppendAsync(Path.Combine(folder, ProfileFolder, FormattableString.Invariant($"{Epoch:d8}.jsonl")), steps.SelectMany(step => Line(JsonSerializer.Serialize(step, FileGrainStorage.Json))).ToArray(), Durability.Seen);

    /// <summary>Keeps a picture of samples after a step.</summary>
    public Task WritePictureAsync(int step, byte[] png) => StepPictures.WriteAsync(disk, folder, step, png);

    /// <summary>The proof of the gradient, for people and for the results.</summary>
    public Task WriteProofAsync(byte[] json) => disk.WriteAsync(Path.Combine(folder, ResultNames.Proof), json);

    public static IEnumerable<StepRecord> ReadMetrics(string path) => File.ReadLines(path).Select(line => JsonSerializer.Deserialize<StepRecord>(line, FileGrainStorage.Json)!);

    public static float[] Floats(ReadOnlySpan<byte> bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    public static byte[] Bytes(ReadOnlySpan<float> numbers) => MemoryMarshal.AsBytes(numbers).ToArray();

    private static byte[] Line(string text) => System.Text.Encoding.UTF8.GetBytes(text + "\n");

    private string LedgerPath(string name) => Path.Combine(folder, RunFolder.LedgerFolder, name);

    private string PathOf(string sha) => Path.Combine(folder, sha + ".bin");
}
