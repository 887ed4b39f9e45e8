using AdjointDpm.Grains.Security;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace AdjointDpm.Silo.Security;

/// <summary>Puts certificates and users before every port of a silo.</summary>
internal static class SiloSecurity
{
    private const string Log = "AdjointDpm.Silo.Security";

    /// <exception cref="InvalidDataException">A file that the options name does not hold what it should.</exception>
    public static void AddSecurity(this WebApplicationBuilder builder, SecurityHostOptions options)
    {
        builder.Services.AddSingleton(options);
        if (options.TlsFolder is not { } folder)
            return;
        // Once before anything listens, so that a mistake is a sentence at the start; the silo reads its own later.
        TlsFolder.Open(folder, needsOwn: true, TimeProvider.System, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        builder.Services.TryAddSingleton(services => TlsFolder.Open(folder, needsOwn: true, services.GetService<TimeProvider>() ?? TimeProvider.System, services.GetRequiredService<ILoggerFactory>().CreateLogger(Log)));
        builder.Services.AddSingleton<IConfigureOptions<SiloConnectionOptions>, OrleansPorts>();
    }

    /// <summary>HTTPS with the same certificates; HTTP without them.</summary>
    public static void UseSecurity(this ListenOptions listen)
    {
        if (listen.ApplicationServices.GetService<TlsFolder>() is not { } tls)
            return;
        var logger = listen.ApplicationServices.GetRequiredService<ILoggerFactory>().CreateLogger(Log);
        listen.UseHttps(new TlsHandshakeCallbackOptions
        {
            HandshakeTimeout = SecureTransport.Patience,
            OnConnection = context => ValueTask.FromResult(tls.ServerOptions(required: false, reason => SecureTransport.LogRefused(logger, "HTTP", context.Connection.RemoteEndPoint, reason), TlsFolder.Silo, TlsFolder.Client)),
        });
    }

    private sealed class OrleansPorts(TlsFolder tls, ILoggerFactory loggers) : IConfigureOptions<SiloConnectionOptions>
    {
        private readonly ILogger _logger = loggers.CreateLogger(Log);

        public void Configure(SiloConnectionOptions options)
        {
            options.ConfigureSiloInboundConnection(port => port.Use(next => SecureTransport.Listen(next, tls, required: true, [TlsFolder.Silo], null, "silo", _logger)));
            options.ConfigureSiloOutboundConnection(port => port.Use(next => SecureTransport.Dial(next, tls, null, _logger)));
            options.ConfigureGatewayInboundConnection(port => port.Use(next => SecureTransport.Listen(next, tls, required: true, [TlsFolder.Silo, TlsFolder.Client], GreetAsync, "gateway", _logger)));
        }

        private static async Task<bool> GreetAsync(Stream stream, System.Net.EndPoint? peer, CancellationToken cancellationToken)
        {
            if (await Greeting.HearAsync(stream, cancellationToken) is null)
                return false;
            await Greeting.AnswerAsync(stream, null, cancellationToken);
            return true;
        }
    }
}
