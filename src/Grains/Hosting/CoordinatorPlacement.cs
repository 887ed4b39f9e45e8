using AdjointDpm.Grains.Workers;
using Orleans.Placement;
using Orleans.Runtime.MembershipService.SiloMetadata;
using Orleans.Runtime.Placement;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Coordinators live on silos without devices where there are any: those are not killed for their memory, nor with a spot machine. Where there are none, any silo will do.</summary>
internal sealed class CoordinatorPlacement() : PlacementFilterStrategy(0);

[AttributeUsage(AttributeTargets.Class)]
internal sealed class CoordinatorPlacementAttribute() : PlacementFilterAttribute(new CoordinatorPlacement());

internal sealed class CoordinatorPlacementDirector(ISiloMetadataCache metadata) : IPlacementFilterDirector
{
    public IEnumerable<SiloAddress> Filter(PlacementFilterStrategy filterStrategy, PlacementTarget target, IEnumerable<SiloAddress> silos)
    {
        var all = silos.ToList();
        var coordinators = all.Where(IsCoordinator).ToList();
        return coordinators.Count > 0 ? coordinators : all;
    }

    /// <summary>A silo that has not told of its devices yet is none.</summary>
    private bool IsCoordinator(SiloAddress silo) => metadata.GetSiloMetadata(silo).Metadata.TryGetValue(WorkerInventory.MetadataKey, out var devices) && devices.Length == 0;
}
