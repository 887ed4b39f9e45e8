namespace AdjointDpm.Models.Memory;

/// <summary>What a network allocates on its way, operation by operation, in bytes: enough to know its peaks with and without a graph.</summary>
internal sealed class Tape
{
    private readonly List<Moment> _moments = [];

    /// <summary>Adds an operation.</summary>
    /// <param name="saved">Kept for the way back from here on.</param>
    /// <param name="held">Kept until the way forward has ended, and not for the way back.</param>
    /// <param name="forward">On top while it runs forward.</param>
    /// <param name="backward">On top while the gradient passes it; its saved bytes are there, too.</param>
    public void Add(long saved, long held = 0, long forward = 0, long backward = 0) => _moments.Add(new(saved, held, forward, backward));

    /// <summary>Adds a block: as it is, or as one operation that keeps only what goes in and is run again on the way back.</summary>
    /// <param name="block">The block's own operations, the first of which saves its input.</param>
    /// <param name="input">Bytes of the input.</param>
    /// <param name="output">Bytes of the output.</param>
    /// <param name="recomputed">Whether it is run again.</param>
    /// <param name="trained">Bytes of its own weights' gradients.</param>
    /// <param name="silent">Its peak without a graph: what its dispose scope holds until it ends.</param>
    public void Block(Tape block, long input, long output, bool recomputed, long silent, long trained = 0)
    {
        if (!recomputed)
        {
            _moments.AddRange(block._moments);
            return;
        }

        // On the way back the block's graph, which counts the input too, stands beside the cotangent; the sum's share of the input's gradient waits for the layers', and gradients of weights are handed over as copies.
        Add(input, forward: silent - input, backward: Math.Max(block.Forward, block.Backward + input) - input + output + (2 * trained));
    }

    /// <summary>What is left for the way back.</summary>
    public long Graph => _moments.Sum(m => m.Saved);

    /// <summary>Peak of the way forward with its graph.</summary>
    public long Forward => Highest(m => m.Saved + m.Held, m => m.Forward);

    /// <summary>Peak of the way back.</summary>
    public long Backward => Highest(m => m.Saved, m => m.Backward);

    private long Highest(Func<Moment, long> stays, Func<Moment, long> passes)
    {
        var (there, highest) = (0L, 0L);
        foreach (var moment in _moments)
        {
            there += stays(moment);
            highest = Math.Max(highest, there + passes(moment));
        }

        return highest;
    }

    private readonly record struct Moment(long Saved, long Held, long Forward, long Backward);
}
