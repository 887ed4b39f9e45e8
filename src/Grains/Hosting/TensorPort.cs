using System.Net;
using AdjointDpm.Grains.DataPlane;
using Microsoft.Extensions.Hosting;

namespace AdjointDpm.Grains.Hosting;

/// <summary>Opens the tensor port with the silo and closes it with it.</summary>
internal sealed class TensorPort(TensorStreamServer server, IPEndPoint listen, IPAddress advertised) : IHostedService
{
    public Task StartAsync(CancellationToken cancellationToken)
    {
        server.Listen(listen, advertised);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
