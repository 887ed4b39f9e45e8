using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>Hyperband: trials in brackets, each of which looks later at fewer; at a look of a bracket, when all its trials are there, the best 1/η go on and the others end.</summary>
/// <remarks>Li et al. 2018, algorithm 1, with a whole trial for R and <see cref="EarlyStoppingSpec.MinSteps"/> for the least resource; after the last bracket comes the first again.</remarks>
internal sealed class Hyperband(EarlyStoppingSpec spec, int steps) : IStoppingRule
{
    private readonly List<Bracket> _brackets = [];
    private readonly Queue<int> _stopped = new();
    private readonly Queue<int> _promoted = new();

    public void Extend(int from, int to)
    {
        var most = 0;
        for (long step = spec.MinSteps; step * spec.ReductionFactor <= steps; step *= spec.ReductionFactor)
            most++;
        for (var s = most; from < to; s = s == 0 ? most : s - 1)
        {
            var size = (int)Math.Min(to - from, Math.Ceiling((most + 1.0) / (s + 1) * Math.Pow(spec.ReductionFactor, s)));
            _brackets.Add(new Bracket(from, size, [.. Enumerable.Range(0, s + 1).Select(i => (int)Math.Max(1, Math.Floor(steps / Math.Pow(spec.ReductionFactor, s - i))))]));
            from += size;
        }
    }

    public int Next(int trial, int from) => BracketOf(trial).Looks.First(look => look > from);

    public int Before(int trial, int step) => BracketOf(trial).Looks.LastOrDefault(look => look < step);

    public bool Reported(int trial, int step, double loss, bool final)
    {
        var bracket = BracketOf(trial);
        var level = Array.IndexOf(bracket.Looks, step);
        bracket.Results[level].Put(trial, loss);
        if (final)
            bracket.Over.Add(trial);
        else
            bracket.Over.Remove(trial);
        if (level == bracket.Looks.Length - 1)
            return false;
        var results = bracket.Results[level];
        if (bracket.Next[level] is { } places)
        {
            // A trial that was tried again when the others had been decided on.
            if (!final)
                Decide(bracket, level, trial, loss, Enumerable.Range(0, results.Count).First(rank => results[rank].Trial == trial) < places);
            return false;
        }
        if (results.Count < bracket.Expected[level])
            return false;
        var goOn = Math.Max(1, results.Count / spec.ReductionFactor);
        bracket.Next[level] = goOn;
        for (var rank = 0; rank < results.Count; rank++)
            Decide(bracket, level, results[rank].Trial, results[rank].Loss, rank < goOn);
        return false;
    }

    private void Decide(Bracket bracket, int level, int trial, double loss, bool goesOn)
    {
        if (bracket.Over.Contains(trial))
            return;
        if (goesOn && double.IsFinite(loss))
        {
            bracket.Expected[level + 1]++;
            _promoted.Enqueue(trial);
        }
        else
        {
            bracket.Over.Add(trial);
            _stopped.Enqueue(trial);
        }
    }

    public int? Stopped() => _stopped.TryDequeue(out var trial) ? trial : null;

    public int? Promoted() => _promoted.TryDequeue(out var trial) ? trial : null;

    /// <summary>A look at which not all will arrive: some were cancelled while they rested.</summary>
    public int? Hopeless()
    {
        foreach (var bracket in _brackets)
            for (var level = 0; level < bracket.Looks.Length - 1; level++)
                for (var rank = 0; rank < bracket.Results[level].Count && bracket.Next[level] is null; rank++)
                    if (bracket.Over.Add(bracket.Results[level][rank].Trial))
                        return bracket.Results[level][rank].Trial;
        return null;
    }

    private Bracket BracketOf(int trial) => _brackets.Find(bracket => trial >= bracket.First && trial < bracket.First + bracket.Size)!;

    private sealed class Bracket(int first, int size, int[] looks)
    {
        public int First => first;

        public int Size => size;

        public int[] Looks => looks;

        public RungResults[] Results { get; } = [.. looks.Select(_ => new RungResults())];

        /// <summary>Trials that come to each look.</summary>
        public int[] Expected { get; } = [size, .. new int[looks.Length - 1]];

        /// <summary>How many went on from each look, once that was decided.</summary>
        public int?[] Next { get; } = new int?[looks.Length];

        public HashSet<int> Over { get; } = [];
    }
}
