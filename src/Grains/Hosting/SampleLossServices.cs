using AdjointDpm.Grains.Workers;
using AdjointDpm.Losses;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Losses of one's own in the host of a silo.</summary>
public static class SampleLossServices
{
    /// <summary>Registers a loss that experiments may name: <c>losses: [{name: custom, loss: NAME}]</c>. All silos of a cluster need it.</summary>
    /// <param name="services">Services of the silo's host.</param>
    /// <param name="name">What specs call it.</param>
    /// <param name="create">Makes it for a batch. Called on the device's thread, before each batch: what takes long to load is to be kept by the factory. What it makes is disposed after the batch if it is <see cref="IDisposable"/>.</param>
    /// <returns>The same services.</returns>
    /// <exception cref="ArgumentException">The name is empty.</exception>
    public static IServiceCollection AddSampleLoss(this IServiceCollection services, string name, Func<SampleLossRequest, SampleLoss> create)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(create);
        services.AddSingleton(new OwnLoss(name, create));
        return services;
    }
}
