using System.Numerics.Tensors;

namespace AdjointDpm.Grains.Trials;

/// <summary>The weighted mean Σ wₛ gₛ / Σ wₛ of shard gradients, in fp32, over a binary tree that is fixed by the shard index.</summary>
/// <remarks>
/// Pairs (2i, 2i+1) are added level by level; the odd one out moves up. Floating-point addition is not associative, so this order,
/// not the order of arrival, decides the bits: any arrival, any number of workers, the same sum. Pairs are added as soon as both are there.
/// </remarks>
internal sealed class GradientReduction
{
    private readonly int _length;
    private readonly List<float[]?[]> _levels = [];
    private readonly bool[] _added;
    private readonly GradientBuffers? _buffers;
    private long _weight;
    private int _count;

    /// <param name="shards">Number of shards.</param>
    /// <param name="length">Numbers in a gradient.</param>
    /// <param name="buffers">Where arrays go that have been added to others.</param>
    public GradientReduction(int shards, int length, GradientBuffers? buffers = null)
    {
        if (shards <= 0)
            throw new ArgumentOutOfRangeException(nameof(shards), shards, "A reduction needs at least one shard.");
        (_length, _buffers) = (length, buffers);
        _added = new bool[shards];
        for (var nodes = shards; ; nodes = (nodes + 1) / 2)
        {
            _levels.Add(new float[]?[nodes]);
            if (nodes == 1)
                break;
        }
    }

    public bool IsComplete => _count == _added.Length;

    /// <summary>Takes the gradient of a shard over; it must not be used by the caller afterwards.</summary>
    public void Add(int shard, float[] gradient, long weight)
    {
        if (gradient.Length != _length)
            throw new ArgumentException($"The gradient of shard {shard} has {gradient.Length} numbers, but {_length} parameters are trained.", nameof(gradient));
        ArgumentOutOfRangeException.ThrowIfNegative(weight);
        if (_added[shard])
            throw new InvalidOperationException($"Shard {shard} was added already.");
        _added[shard] = true;
        _count++;
        _weight += weight;
        if (weight != 1)
            TensorPrimitives.Multiply(gradient, (float)weight, gradient);
        Place(0, shard, gradient);
    }

    /// <summary>The mean. Call once, when complete.</summary>
    public float[] Mean()
    {
        if (!IsComplete)
            throw new InvalidOperationException($"{_added.Length - _count} of {_added.Length} shards are missing.");
        if (_weight == 0)
            throw new InvalidOperationException("All shards of the step have weight 0, so there is nothing to average. Give a shard at least one sample.");
        var sum = _levels[^1][0]!;
        TensorPrimitives.Divide(sum, (float)_weight, sum);
        return sum;
    }

    /// <summary>The mean is spent.</summary>
    public void Return(float[] mean) => _buffers?.Return(mean);

    private void Place(int level, int node, float[] value)
    {
        while (level < _levels.Count - 1)
        {
            var nodes = _levels[level];
            var sibling = node ^ 1;
            if (sibling < nodes.Length)
            {
                if (nodes[sibling] is not { } other)
                {
                    nodes[node] = value;
                    return;
                }
                nodes[sibling] = null;
                // Left plus right whichever came first; addition of two numbers commutes, but NaN payloads need not.
                var (left, right) = node < sibling ? (value, other) : (other, value);
                TensorPrimitives.Add(left, right, left);
                _buffers?.Return(right);
                value = left;
            }
            (level, node) = (level + 1, node / 2);
        }
        _levels[level][0] = value;
    }
}
