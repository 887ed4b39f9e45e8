using System.ComponentModel.DataAnnotations;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Native;
using AdjointDpm.Silo.Postgres;
using AdjointDpm.Silo.S3;
using AdjointDpm.Silo.Security;
using AdjointDpm.Silo.Tools;
using AdjointDpm.Silo.Web;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Orleans.Dashboard;

namespace AdjointDpm.Silo;

/// <summary>The silo as a program. One of your own that calls it is a silo with your losses in it: name it to <c>adpm</c> in ADJOINTDPM_SILO.</summary>
public static partial class SiloProgram
{
    /// <summary>Runs a silo until it is stopped, or one of its tools.</summary>
    /// <param name="args">The command line.</param>
    /// <param name="services">Adds services before the silo is built, such as losses of one's own; also called for tools. Default: none.</param>
    /// <returns>The process's exit code.</returns>
    public static async Task<int> RunAsync(string[] args, Action<IServiceCollection>? services = null)
    {
        if (args.Contains(Doctor.Argument))
            return await Doctor.RunAsync(args, Console.Out);
        if (args.Contains(HealthCheck.Argument))
            return await HealthCheck.RunAsync(args, Console.Out, Console.Error);
        if (Array.IndexOf(args, ToolJson.Argument) is >= 0 and var tool)
            return Tool.Run(args.ElementAtOrDefault(tool + 1), Console.Out, services);

        try
        {
            var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
            var silo = builder.Configuration.Read<SiloHostOptions>(SiloHostOptions.Section);
            var cluster = builder.Configuration.Read<ClusterHostOptions>(ClusterHostOptions.Section);
            var workers = builder.Configuration.Read<WorkerOptions>(WorkerOptions.Section);
            var artifacts = builder.Configuration.Read<ArtifactsHostOptions>(ArtifactsHostOptions.Section);
            var security = builder.Configuration.Read<SecurityHostOptions>(SecurityHostOptions.Section);
            security.Demand(silo.ListenAddress);
            if (cluster.Provider == ClusterProvider.Postgres)
                await PostgresSchema.EnsureAsync(cluster.PostgresConnection!, CancellationToken.None);
            using var bucket = artifacts.Bucket is null ? null : await S3Bucket.OpenAsync(artifacts, TimeProvider.System, CancellationToken.None);
            var native = NativeTorch.EnsureLoaded();
            workers.Arithmetic = [.. workers.EffectiveDevices.Select(device => ArithmeticKind.Of(WorkerOptions.DeviceOf(device)) ?? "")];
            silo.DataFolder = Directory.CreateDirectory(silo.DataFolder).FullName;
            silo.SiloPort = FreePort.Or(silo.SiloPort, silo.ListenAddress);
            silo.GatewayPort = FreePort.Or(silo.GatewayPort, silo.ListenAddress);
            silo.TensorPort = FreePort.Or(silo.TensorPort, silo.ListenAddress);

            builder.AddTelemetry(builder.Configuration.Read<TelemetryHostOptions>(TelemetryHostOptions.Section), silo.Name);
            builder.WebHost.ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.Listen(silo.ListenAddress, silo.HttpPort, port => port.UseSecurity());
            });
            builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(60));
            builder.AddSecurity(security, silo);
            services?.Invoke(builder.Services);
            builder.AddSilo(silo, cluster, workers, bucket is null ? null : (bucket, new BucketOptions(artifacts.StagingFolder, TimeSpan.FromSeconds(artifacts.RetrySeconds))));
            if (silo.ParentProcessId is { } parent)
                builder.Services.AddHostedService(services => ActivatorUtilities.CreateInstance<ParentWatch>(services, parent, silo.FinishWithoutParent));

            await using var app = builder.Build();
            app.UseSecurity();
            app.MapEndpoints();
            app.MapWeb(silo);
            if (silo.Dashboard)
                app.MapOrleansDashboard(HttpAccess.Dashboard);
            foreach (var note in native.Notes)
                LogNative(app.Logger, note);
            await app.StartAsync();

            silo.HttpPort = new Uri(app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First()).Port;
            var devices = workers.EffectiveDevices is { Count: > 0 } own ? string.Join(", ", own) : WorkerOptions.None;
            LogReady(app.Logger, silo.Name, silo.SiloPort, silo.GatewayPort, silo.TensorPort, silo.AdvertisedAddress, silo.HttpPort, devices, silo.DataFolder);
            await Console.Out.WriteLineAsync(new SiloReady(true, silo.Name, Environment.ProcessId, silo.AdvertisedAddress, silo.SiloPort, silo.GatewayPort, silo.HttpPort, silo.DataFolder, silo.TensorPort).ToLine());
            await Console.Out.FlushAsync();
            await app.WaitForShutdownAsync();
            return 0;
        }
        catch (Exception e) when (e is ValidationException or NativeLoadException or InvalidDataException or IOException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync(e.Message);
            return 1;
        }
    }
}
