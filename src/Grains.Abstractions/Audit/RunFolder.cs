using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Audit;

/// <summary>The data folder of a cluster as an auditor reads it: ledgers and what was committed of them. Needs no running cluster.</summary>
internal sealed class RunFolder(string data)
{
    public const string LedgerFolder = "ledger";

    /// <summary>Ids of the experiments that have trials here, or that are known here to have had some.</summary>
    public IReadOnlyList<string> Experiments() =>
        [.. Names(Path.Combine(data, "trials")).Union(Names(Path.Combine(data, "journal"))).Union(Names(Path.Combine(data, "experiments"))).Where(experiment => Begun(experiment).Any()).Order(StringComparer.Ordinal)];

    /// <summary>Indices of an experiment's trials that have begun: those whose folders are here, and those of which journal, report or state tell that something was committed.</summary>
    public IReadOnlyList<int> Trials(string experiment) => [.. Begun(experiment).Distinct().Order()];

    public string TrialFolder(string experiment, int trial) => Path.Combine(data, "trials", experiment, trial.ToString(CultureInfo.InvariantCulture));

    /// <summary>Audits one trial against its committed state.</summary>
    /// <param name="experiment">Id.</param>
    /// <param name="trial">Index.</param>
    /// <param name="known">What is known of the committed state elsewhere, for clusters that do not keep it in this folder.</param>
    public TrialAudit Audit(string experiment, int trial, CommittedHead? known = null)
    {
        var before = Head(experiment, trial) ?? known ?? Told(experiment).GetValueOrDefault(trial);
        var files = Ledger(experiment, trial);
        var head = before is null ? null : before with { Newest = Math.Max(before.Step, Head(experiment, trial)?.Step ?? 0) };
        return LedgerAudit.Of(FormattableString.Invariant($"{experiment}/{trial}"), files, head);
    }

    /// <summary>The ledger's files.</summary>
    public IReadOnlyList<LedgerFile> Ledger(string experiment, int trial)
    {
        var folder = Path.Combine(TrialFolder(experiment, trial), LedgerFolder);
        return Directory.Exists(folder)
            ? [.. Directory.GetFiles(folder, "*.jsonl").Select(path => new LedgerFile(Path.GetFileName(path), LinesOf(ReadShared(path))))]
            : [];
    }

    public static IReadOnlyList<string> LinesOf(ReadOnlySpan<byte> contents)
    {
        var lines = Encoding.UTF8.GetString(contents).Split('\n');
        return lines[^1].Length == 0 ? lines[..^1] : lines;
    }

    /// <summary>Where the file provider keeps the state of a grain.</summary>
    public static string StatePath(string folder, string stateName, string grainId)
    {
        var name = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(grainId)));
        return Path.Combine(folder, stateName, name[..2], name + ".state");
    }

    private CommittedHead? Head(string experiment, int trial) => OfState(experiment, trial) ?? OfReport(experiment, trial);

    /// <summary>The coordinator's own state, when the file provider keeps it here.</summary>
    private CommittedHead? OfState(string experiment, int trial)
    {
        var path = StateOf(experiment, trial);
        if (!File.Exists(path))
            return null;
        var text = Encoding.UTF8.GetString(ReadShared(path));
        using var state = JsonDocument.Parse(text[(text.IndexOf('\n', StringComparison.Ordinal) + 1)..]);
        var root = state.RootElement;
        return new CommittedHead(
            root.GetProperty("step").GetInt32(),
            root.TryGetProperty("ledgerSha256", out var sha) ? sha.GetString() : null,
            EndedAsPlanned(root),
            "the coordinator's committed state");
    }

    /// <summary>The experiment's report, once it has ended.</summary>
    private CommittedHead? OfReport(string experiment, int trial) => Reported(experiment).GetValueOrDefault(trial);

    /// <summary>Trials of the experiment's report of which something was committed.</summary>
    private Dictionary<int, CommittedHead> Reported(string experiment)
    {
        var path = Path.Combine(data, "experiments", experiment, ResultNames.Report);
        var heads = new Dictionary<int, CommittedHead>();
        if (!File.Exists(path))
            return heads;
        using var report = JsonDocument.Parse(ReadShared(path));
        foreach (var row in report.RootElement.GetProperty("trials").EnumerateArray())
            if (HeadOf(row, ResultNames.Report) is { } head)
                heads[row.GetProperty("index").GetInt32()] = head;
        return heads;
    }

    /// <summary>Trials of which the journal tells that they have ended with something committed.</summary>
    private Dictionary<int, CommittedHead> Told(string experiment)
    {
        var folder = Path.Combine(data, "journal", experiment);
        var heads = new Dictionary<int, CommittedHead>();
        foreach (var file in Directory.Exists(folder) ? Directory.GetFiles(folder, "events-*.jsonl").Order(StringComparer.Ordinal) : Enumerable.Empty<string>())
            foreach (var line in LinesOf(ReadShared(file)))
            {
                // Most lines are of steps, and need not be read.
                if (!line.Contains("\"ledgerSha256\":\"", StringComparison.Ordinal) || Parse(line) is not { } told)
                    continue;
                using (told)
                    if (told.RootElement.TryGetProperty("trial", out var trial) && trial.ValueKind == JsonValueKind.Object && HeadOf(trial, "the experiment's journal") is { } head)
                        heads[trial.GetProperty("index").GetInt32()] = head;
            }
        return heads;

        static JsonDocument? Parse(string line)
        {
            try
            {
                return JsonDocument.Parse(line);
            }
            catch (JsonException)
            {
                // Cut off by a crash: it was told to nobody.
                return null;
            }
        }
    }

    /// <summary>Trials that have begun, some of them more than once: what takes no reading first.</summary>
    private IEnumerable<int> Begun(string experiment)
    {
        foreach (var name in Names(Path.Combine(data, "trials", experiment)))
            if (int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var folder))
                yield return folder;
        foreach (var trial in Stated(experiment))
            yield return trial;
        foreach (var trial in Reported(experiment).Keys)
            yield return trial;
        foreach (var trial in Told(experiment).Keys)
            yield return trial;
    }

    /// <summary>Trials whose coordinators' state is here.</summary>
    private IEnumerable<int> Stated(string experiment)
    {
        // States are filed by hash: looked up by name, index after index, from those that are known.
        for (var trial = 0; File.Exists(StateOf(experiment, trial)); trial++)
            if (OfState(experiment, trial)?.Sha256 is not null)
                yield return trial;
    }

    private static CommittedHead? HeadOf(JsonElement trial, string source) => trial.TryGetProperty("ledgerSha256", out var sha) && sha.GetString() is { } head
        ? new CommittedHead(trial.GetProperty("step").GetInt32(), head, EndedAsPlanned(trial), source)
        : null;

    private string StateOf(string experiment, int trial) => StatePath(Path.Combine(data, "state"), "trial", FormattableString.Invariant($"trial/{experiment}/{trial}"));

    /// <summary>A trial whose held-out loss has risen ends before all its steps are done (heldOut.patience).</summary>
    private static bool EndedAsPlanned(JsonElement trial) => trial.GetProperty("state").GetString() == "succeeded"
        && !(trial.TryGetProperty("metrics", out var metrics) && metrics.TryGetProperty("heldOut.stoppedAtStep", out _));

    // A coordinator may be writing: share everything.
    private static byte[] ReadShared(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var bytes = new byte[file.Length];
        return bytes.AsSpan(0, file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false)).ToArray();
    }

    private static string[] Names(string folder) => Directory.Exists(folder) ? [.. Directory.GetDirectories(folder).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)] : [];
}
