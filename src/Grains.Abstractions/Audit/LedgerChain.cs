using System.Globalization;

namespace AdjointDpm.Grains.Audit;

/// <summary>A file of a ledger: its name and its lines.</summary>
internal sealed record LedgerFile(string Name, IReadOnlyList<string> Lines);

/// <summary>A trial's records put together from its files, and what is wrong with them.</summary>
/// <remarks>
/// Every activation of the coordinator writes files of its own, a thousand steps to a file, so that a former one which does not yet know
/// of its end cannot write into the history. A step that was recorded and not committed is done again by the next activation, whose
/// record then takes the place of the first: one for every activation, and with the first step its plan, where both are of one commit. After
/// a backup was restored there are more: the states are those of the moment at which they were saved, and the ledger may be younger. What was done
/// again must agree with what was done first.
/// </remarks>
internal sealed class LedgerChain
{
    public const int StepsPerFile = 1000;

    private readonly List<LedgerRecord> _records = [];
    private readonly List<string> _violations = [];

    /// <summary>What was recorded first of steps that are being done again, and the parameters that they began with.</summary>
    private readonly Dictionary<int, (LedgerRecord Record, string? Began)> _first = [];

    private LedgerChain()
    {
    }

    /// <summary>The plan, then the steps in order.</summary>
    public IReadOnlyList<LedgerRecord> Records => _records;

    public IReadOnlyList<string> Violations => _violations;

    /// <summary>Records that a later activation replaced: their steps were never committed.</summary>
    public int Redone { get; private set; }

    public static string FileOf(long epoch, int step) => string.Create(CultureInfo.InvariantCulture, $"{epoch:d8}-{step / StepsPerFile:d6}.jsonl");

    /// <summary>Activation that wrote a file; null when it is no file of a ledger.</summary>
    public static long? EpochOf(string name) =>
        name.EndsWith(".jsonl", StringComparison.Ordinal) && name.IndexOf('-', StringComparison.Ordinal) is > 0 and var dash && long.TryParse(name.AsSpan(0, dash), NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) ? epoch : null;

    /// <summary>Puts files together that are given in any order.</summary>
    public static LedgerChain Of(IEnumerable<LedgerFile> files)
    {
        var chain = new LedgerChain();
        long? epoch = null;
        foreach (var file in files.Where(file => EpochOf(file.Name) is not null).OrderBy(file => file.Name, StringComparer.Ordinal))
        {
            var begins = EpochOf(file.Name) != epoch;
            epoch = EpochOf(file.Name);
            for (var i = 0; i < file.Lines.Count; i++)
            {
                var place = string.Create(CultureInfo.InvariantCulture, $"{file.Name}, line {i + 1}");
                if (LedgerRecord.Parse(file.Lines[i]) is not { } record)
                {
                    // The last line of an activation may have been cut off by its end; its step was not committed.
                    if (i < file.Lines.Count - 1 || !IsCut(file.Lines[i]))
                        chain._violations.Add($"{place}: the contents do not have the SHA-256 that stands there; they were changed.");
                    continue;
                }
                chain.Add(record, place, epoch!.Value, begins);
                begins = false;
            }
        }
        return chain;
    }

    /// <summary>Takes records away that were never committed: all beyond the committed one.</summary>
    public void CutTo(int step)
    {
        while (_records.Count > step + 1)
        {
            _records.RemoveAt(_records.Count - 1);
            Redone++;
        }
    }

    private static bool IsCut(string line) => !line.EndsWith('}');

    private void Add(LedgerRecord record, string place, long epoch, bool begins)
    {
        if (record.Epoch != epoch)
            _violations.Add($"{place}: a record of coordinator {record.Epoch} stands in the file of coordinator {epoch}.");
        var replaced = _records.Count - record.Step;
        if (replaced < 0)
        {
            _violations.Add(Invariant($"{place}: step {record.Step} follows step {_records.Count - 1}; what lies between is missing."));
            return;
        }
        if (replaced > 0)
        {
            if (!begins)
            {
                _violations.Add(Invariant($"{place}: step {record.Step} is recorded twice."));
                return;
            }
            foreach (var former in _records.Skip(record.Step))
                _first[former.Step] = (former, former.Step == 0 ? null : _records[former.Step - 1].ParametersSha256);
            _records.RemoveRange(record.Step, replaced);
            Redone += replaced;
        }
        // What began with other parameters, for a reason that was looked at there, ends with others.
        if (_first.Remove(record.Step, out var first) && first.Began == (_records.Count == 0 ? null : _records[^1].ParametersSha256))
            Compare(first.Record, record, place);
        if (_records is [.., { Lean: true } before] && record.Lean != true)
            _violations.Add(Invariant($"{place}: step {record.Step} was not computed one sample at a time, although step {before.Step} was; who runs out of memory once does not go back."));
        if (record.Previous != (_records.Count == 0 ? "" : _records[^1].Sha256))
            _violations.Add(Invariant($"{place}: step {record.Step} does not follow from the record before it; a record was changed, taken out or put in."));
        _records.Add(record);
    }

    /// <summary>Equal tokens have equal contents, whoever computed them: a step that was done again must agree with what was done first.</summary>
    /// <remarks>
    /// But for the step at which memory ran out: done again one sample at a time its last bits are others. From then on there is no way back. Nor do those agree that
    /// were computed by workers of kinds that round differently.
    /// </remarks>
    private void Compare(LedgerRecord first, LedgerRecord second, string place)
    {
        if (first.Lean != true && second.Lean == true)
            return;
        if (first.Lean == true && second.Lean != true)
        {
            _violations.Add(Invariant($"{place}: step {second.Step} was computed one sample at a time, and then done again as if it had not been."));
            return;
        }
        if (first.Arithmetic == second.Arithmetic && first.ParametersSha256 != second.ParametersSha256)
            _violations.Add(Invariant($"{place}: step {second.Step} was done again and gave other parameters ({Short(second.ParametersSha256)} instead of {Short(first.ParametersSha256)}); a device computes wrongly."));
    }

    private static string Short(string sha) => sha.Length > 12 ? sha[..12] + "…" : sha;

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
