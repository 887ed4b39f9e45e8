using System.ComponentModel.DataAnnotations;
using System.Net;
using System.Net.Sockets;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Silo;

/// <summary>Answers <c>--health</c>: asks the silo that runs with the same settings whether it is ready, by HTTPS where it has certificates. For images, which have no other program for it.</summary>
internal static class HealthCheck
{
    public const string Argument = "--health";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(8);

    /// <returns>0 when it is ready, else 1.</returns>
    public static async Task<int> RunAsync(string[] args, TextWriter output, TextWriter error)
    {
        try
        {
            var configuration = WebApplication.CreateBuilder(new WebApplicationOptions { Args = [.. args.Where(arg => arg != Argument)], ContentRootPath = AppContext.BaseDirectory }).Configuration;
            var silo = configuration.Read<SiloHostOptions>(SiloHostOptions.Section);
            var security = configuration.Read<SecurityHostOptions>(SecurityHostOptions.Section);
            using var handler = new SocketsHttpHandler { UseProxy = false };
            if (security.TlsFolder is { } folder)
                handler.SslOptions = TlsFolder.Open(folder, needsOwn: true, TimeProvider.System, NullLogger.Instance).ClientOptions(_ => { });
            using var http = new HttpClient(handler) { Timeout = Patience };
            using var answer = await http.GetAsync(AddressOf(silo, security.TlsFolder is not null));
            await output.WriteAsync(await answer.Content.ReadAsStringAsync());
            return answer.IsSuccessStatusCode ? 0 : 1;
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or InvalidDataException or ValidationException)
        {
            await error.WriteLineAsync(e is OperationCanceledException ? $"No answer in {Patience.TotalSeconds:g} s." : e.Message);
            return 1;
        }
    }

    /// <summary>Its own loopback when it listens everywhere.</summary>
    internal static Uri AddressOf(SiloHostOptions silo, bool secured)
    {
        var listen = silo.ListenAddress;
        var address = listen.Equals(IPAddress.Any) ? IPAddress.Loopback : listen.Equals(IPAddress.IPv6Any) ? IPAddress.IPv6Loopback : listen;
        var host = address.AddressFamily == AddressFamily.InterNetworkV6 ? $"[{address}]" : address.ToString();
        return new Uri(FormattableString.Invariant($"{(secured ? "https" : "http")}://{host}:{silo.HttpPort}{AdjointDpmCluster.ReadyPath}"));
    }
}
