using System.Reflection;

namespace AdjointDpm.Grains.Tests.DataPlane;

/// <summary>A factory of which every grain is the same one, called directly.</summary>
public class OneGrain : DispatchProxy
{
    private object? _grain;

    internal static IGrainFactory Factory(object grain)
    {
        var grains = Create<IGrainFactory, OneGrain>();
        ((OneGrain)(object)grains)._grain = grain;
        return grains;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => _grain;
}

/// <summary>A silo named "here".</summary>
internal sealed class HereSilo : ILocalSiloDetails
{
    public string Name => "here";

    public string ClusterId => "test";

    public string DnsHostName => "here";

    public SiloAddress SiloAddress => SiloAddress.Zero;

    public SiloAddress GatewayAddress => SiloAddress.Zero;
}
