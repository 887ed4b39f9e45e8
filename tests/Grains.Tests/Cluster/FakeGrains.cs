using System.Reflection;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>References to grains that a test answers for.</summary>
#pragma warning disable CA1852 // The proxy derives from it.
internal class FakeGrains : DispatchProxy
#pragma warning restore CA1852
{
    private Func<Type, string, object> _grain = null!;

    /// <param name="grain">The grain of an interface with a key.</param>
    public static IGrainFactory Of(Func<Type, string, object> grain)
    {
        var grains = Create<IGrainFactory, FakeGrains>();
        ((FakeGrains)(object)grains)._grain = grain;
        return grains;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => _grain(targetMethod!.GetGenericArguments()[0], (string)args![0]!);
}
