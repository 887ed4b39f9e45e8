namespace AdjointDpm.Grains.Trials;

/// <summary>Arrays of one length, used again from shard to shard and from step to step: gradients are received into them and added in them.</summary>
internal sealed class GradientBuffers(int length)
{
    /// <summary>What waits in a tree at once, when shards come about in order, and what is under way.</summary>
    private const int MostKept = 8;

    private readonly Lock _gate = new();
    private readonly Stack<float[]> _free = new();

    /// <summary>Numbers in an array.</summary>
    public int Length => length;

    /// <summary>An array with anything in it.</summary>
    public float[] Rent()
    {
        lock (_gate)
            return _free.TryPop(out var free) ? free : GC.AllocateUninitializedArray<float>(length);
    }

    /// <summary>Gives an array back that nobody reads or writes any more. One that is not given back is collected as garbage.</summary>
    public void Return(float[] buffer)
    {
        lock (_gate)
            if (_free.Count < MostKept)
                _free.Push(buffer);
    }
}
