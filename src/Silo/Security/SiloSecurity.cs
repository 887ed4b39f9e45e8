using System.Net;
using AdjointDpm.Grains.Security;
using Microsoft.AspNetCore.HostFiltering;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace AdjointDpm.Silo.Security;

/// <summary>Puts certificates and users before every port of a silo.</summary>
internal static partial class SiloSecurity
{
    private const string Log = "AdjointDpm.Silo.Security";

    /// <summary>Nothing here says more than a page of text; tensors come in chunks of a MiB.</summary>
    private const int MostMessageBytes = 32 << 20;

    private const int MostHeaderBytes = 1 << 20;

    /// <exception cref="InvalidDataException">A file that the options name does not hold what it should.</exception>
    public static void AddSecurity(this WebApplicationBuilder builder, SecurityHostOptions options, SiloHostOptions silo)
    {
        var services = builder.Services;
        services.AddSingleton(options);
        services.AddSingleton(TimeProvider.System);
        services.AddSingleton<FailedAttempts>();
        services.AddHostedService<SecurityInstruments>();
        services.AddSingleton(provider => ActivatorUtilities.CreateInstance<AuditLog>(provider, Path.Combine(options.AuditFolder ?? Path.Combine(silo.DataFolder, "audit"), $"{silo.Name}.jsonl"), silo.Name));
        services.Configure<SiloMessagingOptions>(messages => (messages.MaxMessageBodySize, messages.MaxMessageHeaderSize) = (MostMessageBytes, MostHeaderBytes));
        // A name that an attacker lets point to this machine would make its pages readable to the attacker's.
        if (IPAddress.IsLoopback(silo.ListenAddress))
            services.PostConfigure<HostFilteringOptions>(hosts => hosts.AllowedHosts = ["localhost", "127.0.0.1", "[::1]"]);
        if (options.TlsFolder is { } folder)
            services.AddSingleton(ReadNow(logger => TlsFolder.Open(folder, needsOwn: true, TimeProvider.System, logger)));
        if (options.UsersFile is { } users)
        {
            services.AddSingleton(ReadNow(logger => new UsersFile(users, TimeProvider.System, logger)));
            services.AddSingleton(ReadNow(logger => new ClusterKey(options.ClusterKeyFile!, TimeProvider.System, logger)));
            services.AddSingleton(new SubmissionRules([.. options.Roots], [.. options.Sidecars], options.AllowTorchScript, options.MaxSpecBytes));
            services.AddSingleton<CallGate>();
            services.AddSingleton<IIncomingGrainCallFilter>(provider => provider.GetRequiredService<CallGate>());
            services.AddSingleton<IOutgoingGrainCallFilter>(provider => provider.GetRequiredService<CallGate>());
        }
        if (options.OidcAuthority is { } authority)
            services.AddAuthentication().AddJwtBearer(bearer =>
            {
                (bearer.Authority, bearer.Audience, bearer.MapInboundClaims) = (authority, options.OidcAudience, false);
                // Demand lets plain HTTP through on loopback alone.
                bearer.RequireHttpsMetadata = !new Uri(authority).IsLoopback;
            });
        if (options.TlsFolder is not null || options.UsersFile is not null)
            services.AddSingleton<IConfigureOptions<SiloConnectionOptions>, OrleansPorts>();
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

    /// <summary>Comes before every endpoint.</summary>
    public static void UseSecurity(this WebApplication app) => app.UseMiddleware<HttpAccess>();

    /// <summary>Reads a file before anything listens, so that a mistake is a sentence at the start, and leaves reading it again to the silo's logger.</summary>
    private static Func<IServiceProvider, T> ReadNow<T>(Func<ILogger, T> open)
    {
        open(NullLogger.Instance);
        return services => open(services.GetRequiredService<ILoggerFactory>().CreateLogger(Log));
    }

    private sealed class OrleansPorts(SecurityHostOptions security, ILoggerFactory loggers, FailedAttempts failed, AuditLog audit, TlsFolder? tls = null, UsersFile? users = null) : IConfigureOptions<SiloConnectionOptions>
    {
        private readonly ILogger _logger = loggers.CreateLogger(Log);

        public void Configure(SiloConnectionOptions options)
        {
            if (tls is not null)
            {
                options.ConfigureSiloInboundConnection(port => port.Use(next => SecureTransport.Listen(next, tls, required: true, [TlsFolder.Silo], null, "silo", _logger)));
                options.ConfigureSiloOutboundConnection(port => port.Use(next => SecureTransport.Dial(next, tls, null, _logger)));
            }
            options.ConfigureGatewayInboundConnection(port => port.Use(next => SecureTransport.Listen(next, tls, security.RequireClientCertificate, [TlsFolder.Silo, TlsFolder.Client], GreetAsync, "gateway", _logger)));
        }

        private async Task<bool> GreetAsync(Stream stream, EndPoint? peer, CancellationToken cancellationToken)
        {
            var address = (peer as IPEndPoint)?.Address;
            if (await Greeting.HearAsync(stream, cancellationToken) is not { } token)
                return false;
            if (users is not null && !users.TryFind(token, out _))
            {
                // Only those with a wrong token wait: behind a port-forward others come from the same address.
                var blocked = token.Length > 0 && NoteFailure(failed, audit, _logger, "gateway", address);
                await Greeting.AnswerAsync(stream, blocked ? Words.Blocked : token.Length > 0 ? Words.Unknown : Words.Missing, cancellationToken);
                return false;
            }
            await Greeting.AnswerAsync(stream, null, cancellationToken);
            return true;
        }
    }

    /// <summary>Counts a wrong token against its address.</summary>
    /// <returns>Whether there were too many before it.</returns>
    internal static bool NoteFailure(FailedAttempts failed, AuditLog audit, ILogger logger, string port, IPAddress? address)
    {
        if (failed.IsBlocked(address))
        {
            failed.Count();
            return true;
        }
        var blocks = failed.Failed(address);
        LogWrongToken(logger, port, address, blocks ? $" It is the {FailedAttempts.Most}th within a minute; its wrong tokens are answered no more until the minute is over." : "");
        if (blocks)
            audit.Add(null, "guess tokens", port, "refused", null, address?.ToString());
        return false;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "A wrong token came to the {Port} port from {Address}.{Blocked}")]
    private static partial void LogWrongToken(ILogger logger, string port, IPAddress? address, string blocked);

    /// <summary>What those hear who are not let in: nothing that helps to guess.</summary>
    internal static class Words
    {
        public const string Blocked = "Too many wrong tokens came from this address. Try again in a minute.";
        public const string Unknown = "This cluster does not know the token.";
        public const string Missing = "This cluster knows its users by token. Give --token-file FILE or set ADJOINTDPM_TOKEN_FILE.";
    }
}
