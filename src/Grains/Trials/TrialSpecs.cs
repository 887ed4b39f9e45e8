using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Trials;

/// <summary>The specs of the trials that this process works on, read once: a trial's coordinator and its workers ask again and again.</summary>
internal static class TrialSpecs
{
    private const int Most = 64;

    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, ExperimentSpec> Known = [];
    private static readonly Queue<string> Oldest = new();

    /// <param name="specJson">Canonical JSON of a trial's spec.</param>
    /// <exception cref="SpecException">It is not one.</exception>
    public static ExperimentSpec Of(string specJson)
    {
        lock (Gate)
            if (Known.TryGetValue(specJson, out var known))
                return known;
        var spec = ExperimentSpecJson.Deserialize(specJson);
        lock (Gate)
        {
            if (!Known.TryAdd(specJson, spec))
                return Known[specJson];
            Oldest.Enqueue(specJson);
            if (Oldest.Count > Most)
                Known.Remove(Oldest.Dequeue());
        }
        return spec;
    }
}
