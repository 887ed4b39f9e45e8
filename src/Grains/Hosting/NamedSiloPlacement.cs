using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Places a grain with key <c>{silo}/{anything}</c> on the silo of that name and nowhere else.</summary>
[GenerateSerializer, Immutable, SuppressReferenceTracking, Alias("adjointdpm.NamedSiloPlacement")]
internal sealed class NamedSiloPlacement : PlacementStrategy;

[AttributeUsage(AttributeTargets.Class)]
internal sealed class NamedSiloPlacementAttribute() : PlacementAttribute(new NamedSiloPlacement());

internal sealed class NamedSiloPlacementDirector(ISiloStatusOracle oracle) : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        var key = target.GrainIdentity.Key.ToString()!;
        var slash = key.LastIndexOf('/');
        if (slash <= 0)
            throw new ArgumentException($"'{key}' is not '<silo>/<name>'.");
        foreach (var silo in context.GetCompatibleSilos(target))
            if (oracle.TryGetSiloName(silo, out var name) && key.AsSpan(0, slash).SequenceEqual(name))
                return Task.FromResult(silo);
        throw new SiloNotActiveException($"Silo '{key[..slash]}' is not an active member of the cluster.");
    }
}

/// <summary>A grain was asked for on a silo that is not there, or not yet seen by the silo that looked.</summary>
[GenerateSerializer, Alias("adjointdpm.SiloNotActiveException")]
internal sealed class SiloNotActiveException(string message) : Exception(message);
