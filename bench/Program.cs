// Read the ratios, not the seconds.
// dotnet run --project bench -c Release -- [steps,steps,… [size]]                 gradient methods on one UNet; default: 5,10,20,40 and 16 x 16 latents
// dotnet run --project bench -c Release -- side-by-side [steps,steps,… [size]]    against PyTorch and torchdiffeq; default: 10,20 and 16 x 16 latents
// dotnet run --project bench -c Release -- loading [folder]                        Stable Diffusion 1.5's size in float16, written once, against reading the bytes
// dotnet run --project bench -c Release -- attention                               plain and fused attention, and channels-last convolutions
// dotnet run --project bench -c Release -- trials [number [at once]]               what a trial costs the cluster that computes nothing; default: 10000 8
// dotnet run --project bench -c Release -- transport [workers,… [megabytes,…]]     gradients of several processes to their mean, and a step's overhead; default: 2,4 1,4,25,100; "transport steps": the overhead alone; "transport tls": the same without and with mutual TLS
// dotnet run --project bench -c Release -- applications [folder [pictures [section …]]]    the tables and pictures of docs/applications.md (build src/Client and src/Silo first); default: runs/applications docs/images
// dotnet run --project bench -c Release -- audit [noises [radius [budgets]]]       success of an audit by the gradient it climbs, for equal evaluations; default: 100 0.2 160,320
// dotnet run --project bench -c Release -- search [seeds [trials [names]]]          regret of the searches, beside Optuna where PYTHON has it; default: 21 100
// dotnet run --project bench -c Release -- failover [rounds]                       how long a run stands still for when a silo is lost; default: 9
// dotnet run --project bench -c Release -- metrics [trials]                        what metrics cost a step, and what a scrape takes with so many trials running; default: 1000
// dotnet run --project bench -c Release -- client [trials] [demo]                  first output of commands, pages of an experiment of many trials, the cost of a live page, the demo; default: 10000. Build src/Client first
using System.Globalization;
using AdjointDpm.Bench;
using AdjointDpm.Native;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
if (args is ["trials", ..])
{
    Console.WriteLine("| trials | at once | a second | p50 ms | p99 ms | p99 ms, second half | processor ms a trial | KB a trial | flushes a trial | one flush, ms |");
    Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|");
    await NoOpTrials.RunAsync(args.Length > 1 ? int.Parse(args[1]) : 10_000, args.Length > 2 ? int.Parse(args[2]) : 8);
    return;
}

if (args is ["client", ..])
{
    await ClientBench.RunAsync(args.Skip(1).Select(word => int.TryParse(word, out var trials) ? trials : 0).FirstOrDefault(trials => trials > 0, 10_000), args.Contains("demo"), args.Skip(1).FirstOrDefault(File.Exists));
    return;
}

if (args is ["metrics", ..])
{
    await MetricsCost.RunAsync(args.Length > 1 ? int.Parse(args[1]) : 1000);
    return;
}

if (args is ["applications", ..])
{
    Applications.Run(args.Length > 1 ? args[1] : "runs/applications", args.Length > 2 ? args[2] : "docs/images", args.Length > 3 ? args[3..] : []);
    return;
}

if (args is ["search", ..])
{
    SearchRegret.Run(args.Length > 1 ? int.Parse(args[1]) : 21, args.Length > 2 ? int.Parse(args[2]) : 100, Environment.GetEnvironmentVariable("PYTHON"), args.Length > 3 ? args[3] : null);
    return;
}

if (args is [TransportSilo.Argument, var silo, var place, var parameters, var stream, .. var certificates])
{
    await TransportSilo.RunAsync(silo, place, int.Parse(parameters), int.Parse(stream), certificates.FirstOrDefault());
    return;
}
if (args is [Failover.Argument, var failover, var shared])
{
    await Failover.RunSiloAsync(failover, shared);
    return;
}
if (args is ["failover", ..])
{
    await Failover.RunAsync(args.Length > 1 ? int.Parse(args[1]) : 9);
    return;
}
if (args is ["transport", "steps"])
{
    await Transport.RunAsync([], []);
    return;
}

if (args is ["transport", "tls", ..])
{
    await Transport.RunTlsAsync(args.Length > 2 ? [.. args[2].Split(',').Select(int.Parse)] : [2], args.Length > 3 ? [.. args[3].Split(',').Select(int.Parse)] : [1, 4, 25, 100]);
    return;
}

if (args is ["transport", ..])
{
    await Transport.RunAsync(args.Length > 1 ? [.. args[1].Split(',').Select(int.Parse)] : [2, 4], args.Length > 2 ? [.. args[2].Split(',').Select(int.Parse)] : [1, 4, 25, 100]);
    return;
}

NativeTorch.EnsureLoaded();
set_num_threads(1);
if (args is ["loading", ..])
{
    Loading.Run(args.Length > 1 ? args[1] : Path.Combine(Path.GetTempPath(), "adjointdpm-loading"));
    return;
}

if (args is ["audit", ..])
{
    AuditGradients.Run(args.Length > 1 ? int.Parse(args[1]) : 100, args.Length > 2 ? double.Parse(args[2]) : 0.2, args.Length > 3 ? [.. args[3].Split(',').Select(int.Parse)] : [160, 320]);
    return;
}

if (args is ["attention"])
{
    Kernels.Run();
    return;
}

var sideBySide = args is ["side-by-side", ..];
var rest = sideBySide ? args[1..] : args;
var steps = rest.Length > 0 ? rest[0].Split(',').Select(int.Parse).ToArray() : sideBySide ? [10, 20] : [5, 10, 20, 40];
var size = rest.Length > 1 ? int.Parse(rest[1]) : 16;
if (sideBySide)
    SideBySide.Run(steps, size);
else
    GradientMethods.Run(steps, size);
