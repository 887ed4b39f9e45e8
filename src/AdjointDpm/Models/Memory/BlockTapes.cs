namespace AdjointDpm.Models.Memory;

/// <summary>The blocks of UNets and autoencoders as tapes: which of their tensors autograd keeps, and which are there meanwhile.</summary>
/// <remarks>
/// After the formulas of libtorch's derivatives: a normalisation and a convolution keep their input, an activation its own, a softmax its result, a product of two
/// tensors both, a linear layer its input only where its weight is trained. A tensor is counted where it is first kept.
/// </remarks>
/// <param name="batch">Samples.</param>
/// <param name="element">Bytes of a number.</param>
/// <param name="recomputed">Whether blocks are run again on the way back.</param>
/// <param name="isTrained">Whether a weight's gradient is wanted, by its name.</param>
/// <param name="fused">Whether transformers' attention is libtorch's fused kernel.</param>
internal sealed class BlockTapes(long batch, long element, bool recomputed, Func<string, bool> isTrained, bool fused = false)
{
    public long Map(long channels, long height, long width) => batch * channels * height * width * element;

    public bool IsRecomputed => recomputed;

    /// <summary>A residual block.</summary>
    public void Resnet(Tape tape, long input, long output, long height, long width, bool hasTime)
    {
        var (a, b) = (Map(input, height, width), Map(output, height, width));
        var block = new Tape();
        // First convolution's result, where time is added to it.
        var local = hasTime ? b : 0;
        block.Add(a, forward: a);
        block.Add(a, forward: a, backward: 2 * a);
        block.Add(a, forward: b, backward: a + b);
        block.Add(b, forward: local + b, backward: 2 * b);
        block.Add(b, forward: local + b, backward: 2 * b);
        var shortcut = input == output ? 0 : b;
        block.Add(b, forward: local + (2 * b) + shortcut, backward: (2 * b) + a);
        tape.Block(block, a, b, recomputed, block.Forward);
    }

    /// <summary>Transformer blocks over a map.</summary>
    /// <param name="tape">Where to.</param>
    /// <param name="path">Path of the module.</param>
    /// <param name="options">What the module is built from.</param>
    /// <param name="height">Of the map.</param>
    /// <param name="width">Of the map.</param>
    public void Transformer(Tape tape, string path, TransformerShape options, long height, long width)
    {
        var map = Map(options.Channels, height, width);
        var block = Transformer(path, options, map, height * width);
        // Each transformer block frees what it held.
        tape.Block(block, map, map, recomputed, recomputed ? Transformer(path, options with { Depth = 1 }, map, height * width).Forward : 0, Trained(path, options));
    }

    private Tape Transformer(string path, TransformerShape options, long map, long pixels)
    {
        var block = new Tape();
        block.Add(map, forward: map);
        block.Add(options.Linear ? Kept(path + ".proj_in", map) : map, forward: map, backward: 2 * map);
        // Until the end of the module its scope holds what the normalisation gave.
        var local = options.Linear ? map : 0;
        for (var i = 0; i < options.Depth; i++)
        {
            var here = $"{path}.transformer_blocks.{i}";
            Attention(block, $"{here}.attn1", options, map, pixels, options.OnlyCross ? options.Context : pixels, local);
            Attention(block, $"{here}.attn2", options, map, pixels, options.Context, local);
            block.Add(map + Kept($"{here}.ff.net.0.proj", map), forward: local + map);
            block.Add(8 * map, forward: local + map, backward: 9 * map);
            block.Add((4 * map) + Kept($"{here}.ff.net.2", 4 * map), forward: local + (5 * map), backward: 12 * map);
        }

        block.Add(options.Linear ? Kept(path + ".proj_out", map) : map, held: 0, forward: local + (2 * map), backward: 3 * map);
        return block;
    }

    private long Trained(string path, TransformerShape options)
    {
        var (c, d) = (options.Channels, options.ContextWidth);
        var sum = Of(".proj_in", c * c) + Of(".proj_out", c * c);
        for (var i = 0; i < options.Depth; i++)
        {
            foreach (var (attention, width) in new[] { ("attn1", options.OnlyCross ? d : c), ("attn2", d) })
                sum += Of($".transformer_blocks.{i}.{attention}.to_q", c * c) + Of($".transformer_blocks.{i}.{attention}.to_k", c * width) + Of($".transformer_blocks.{i}.{attention}.to_v", c * width) + Of($".transformer_blocks.{i}.{attention}.to_out.0", c * c);
            sum += Of($".transformer_blocks.{i}.ff.net.0.proj", 8 * c * c) + Of($".transformer_blocks.{i}.ff.net.2", 4 * c * c);
        }

        return sum * element;

        long Of(string layer, long numbers) => isTrained(path + layer + ".weight") ? numbers : 0;
    }

    /// <summary>Self-attention of autoencoders and unconditional networks.</summary>
    public void Spatial(Tape tape, long channels, long heads, long height, long width)
    {
        var (map, pixels) = (Map(channels, height, width), height * width);
        var scores = batch * heads * pixels * pixels * element;
        var block = new Tape();
        block.Add(map, forward: map);
        Scores(block, map, map, map, scores, scores, map, 2);
        block.Add(0, forward: 3 * map, backward: 2 * map);
        tape.Block(block, map, map, recomputed, block.Forward);
    }

    private void Attention(Tape block, string path, TransformerShape options, long map, long queries, long keys, long local)
    {
        var kept = isTrained(path + ".to_q.weight") || isTrained(path + ".to_k.weight") || isTrained(path + ".to_v.weight") ? map : 0;
        var width = options.Upcast ? Math.Max(element, sizeof(float)) : element;
        var (count, context) = (batch * options.Heads * queries * keys, batch * keys * options.Channels * element);
        block.Add(map + kept, forward: local + map);
        if (fused)
        {
            // Queries, keys and values where they are, the result, and a number for each row.
            var wide = width / element;
            block.Add(((map + context) * wide) + (context * wide) + (map * wide) + (batch * options.Heads * queries * sizeof(float)), forward: local + (2 * map), backward: 4 * map * wide);
            block.Add(Kept(path + ".to_out.0", map), forward: local + (3 * map), backward: 3 * map);
            return;
        }

        // Computed wide, the weights are there in both dtypes.
        var copies = width == element ? 0 : count * element;
        Scores(block, map * width / element, context * width / element, context, count * width, copies + (count * width), map, width == element ? 2 : 3, local);
        block.Add(Kept(path + ".to_out.0", map), forward: local + (3 * map), backward: 3 * map);
    }

    /// <summary>q kᵀ, scaled, softmax, times v.</summary>
    private void Scores(Tape block, long q, long k, long v, long scores, long kept, long map, long passes, long local = 0)
    {
        // Several samples: the parts of heads are copied to lie one after the other, beside the originals.
        var beside = batch > 1 ? q + k + v : 0;
        block.Add(q + k + v, forward: local + map + beside);
        block.Add(kept, forward: local + map + beside + (passes * scores) + map, backward: (2 * scores) + (3 * map));
    }

    private long Kept(string layer, long bytes) => isTrained(layer + ".weight") ? bytes : 0;
}

/// <summary>What a transformer over a map is built from.</summary>
/// <param name="Channels">Of the map.</param>
/// <param name="Heads">Of its attentions.</param>
/// <param name="Depth">Blocks one after the other.</param>
/// <param name="Context">Length of the conditioning sequence.</param>
/// <param name="ContextWidth">Width of that sequence.</param>
/// <param name="Linear">Projections are linear layers.</param>
/// <param name="OnlyCross">The first attention looks at the context, too.</param>
/// <param name="Upcast">Attention weights are computed in float32.</param>
internal sealed record TransformerShape(long Channels, long Heads, int Depth, long Context, long ContextWidth, bool Linear, bool OnlyCross, bool Upcast);
