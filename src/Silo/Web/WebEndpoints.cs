using System.Globalization;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Net.Http.Headers;

namespace AdjointDpm.Silo.Web;

/// <summary>What people look at in a browser: pages about experiments, trials, events, audits and workers. They only read.</summary>
internal static class WebEndpoints
{
    /// <summary>Experiments of a page.</summary>
    private const int MostExperiments = 50;

    /// <summary>Experiments among which names are looked for.</summary>
    private const int MostSearched = 1000;

    private const int MostTrials = 100, MostEvents = 200, MostAudits = 25;

    // No page of this host runs, loads or sends anything that does not come from this host.
    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

    private static readonly (string Name, string Type, byte[] Bytes, string Tag)[] Assets = [Asset("site.css", "text/css; charset=utf-8", Html.Style), Asset("site.js", "text/javascript; charset=utf-8", Html.Script)];

    /// <summary>Maps the pages, beginning with the list of experiments at the root.</summary>
    public static void MapWeb(this WebApplication app, SiloHostOptions silo)
    {
        var web = app.MapGroup("").AddEndpointFilter(SafelyAsync);
        foreach (var asset in Assets)
            web.MapGet($"/web/{asset.Name}", () => TypedResults.Bytes(asset.Bytes, asset.Type, entityTag: new EntityTagHeaderValue(asset.Tag)));

        web.MapGet("/", async (IGrainFactory grains, TimeProvider time, int? skip, string? find, string? state, CancellationToken cancellationToken) =>
        {
            var (from, all) = (Math.Max(0, skip ?? 0), !string.IsNullOrWhiteSpace(find) || !string.IsNullOrEmpty(state));
            var directory = grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key);
            var found = await directory.ListAsync(all ? 0 : from, all ? MostSearched : MostExperiments + 1, cancellationToken);
            if (all)
                found = [.. found.Where(one => (string.IsNullOrWhiteSpace(find) || one.Id.Contains(find.Trim(), StringComparison.OrdinalIgnoreCase) || one.Name.Contains(find.Trim(), StringComparison.OrdinalIgnoreCase) || one.Labels?.Any(label => $"{label.Key}={label.Value}".Contains(find.Trim(), StringComparison.OrdinalIgnoreCase)) == true) && (string.IsNullOrEmpty(state) || Words.State(one.State) == state)).Skip(from)];
            return ExperimentsPage.Of([.. found.Take(MostExperiments)], from, MostExperiments, found.Count > MostExperiments, find, state, time);
        });

        web.MapGet("/experiments/{id}", async (string id, [AsParameters] TrialListing listing, IGrainFactory grains, TimeProvider time, CancellationToken cancellationToken) =>
        {
            var experiment = Experiment(grains, id);
            if (await experiment.GetSnapshotAsync(cancellationToken) is not { } snapshot)
                return WebPage.NotFound($"There is no experiment '{id}'.");
            var view = new ExperimentPage(snapshot, time);
            TrialPage? page = null;
            string? wrong = null;
            try
            {
                page = await experiment.FindTrialsAsync(listing.Query(MostTrials), cancellationToken);
            }
            catch (ArgumentException e)
            {
                wrong = e.Message;
            }
            // Enough to see a shape by; the best where there are more.
            var valued = await experiment.FindTrialsAsync(view.Valued(), cancellationToken);
            return view.Of(listing, page ?? new TrialPage([], 0), wrong, valued?.Trials ?? [], MostTrials);
        });

        web.MapGet("/experiments/{id}/trials/{trial:int}", async (string id, int trial, IGrainFactory grains, IArtifacts artifacts, TimeProvider time, CancellationToken cancellationToken) =>
        {
            var experiment = Experiment(grains, id);
            if (await experiment.GetSnapshotAsync(cancellationToken) is not { } snapshot || await TrialAsync(experiment, trial, cancellationToken) is not { } found)
                return WebPage.NotFound($"There is no trial {trial} of an experiment '{id}'.");
            var steps = await experiment.GetStepsAsync(trial, cancellationToken);
            return TrialPageView.Of(snapshot, found, steps, await artifacts.ManifestAsync(id, trial, cancellationToken), time);
        });

        web.MapGet("/experiments/{id}/trials/{trial:int}/files/{sha256}", async (string id, int trial, string sha256, IArtifacts artifacts, HttpContext http, CancellationToken cancellationToken) =>
        {
            _ = SiloFolders.Safe(id);
            // By content, and only what the trial's manifest lists: no path comes from outside.
            var file = trial < 0 ? null : (await artifacts.ManifestAsync(id, trial, cancellationToken)).FirstOrDefault(file => file.Sha256 == sha256);
            if (file is null || await artifacts.OpenAsync(id, trial, file, cancellationToken) is not { } stream)
                return WebPage.NotFound($"Trial {trial} of '{id}' has no file with this SHA-256.");
            var name = file.Path[(file.Path.LastIndexOf('/') + 1)..];
            var type = TypeOf(name);
            // A picture with scripts in it shows, and they do not run.
            http.Response.Headers.ContentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
            http.Response.Headers.CacheControl = "private, max-age=31536000, immutable";
            return Results.Stream(stream, type ?? "application/octet-stream", type is null ? name : null, entityTag: new EntityTagHeaderValue($"\"{file.Sha256}\""), enableRangeProcessing: stream.CanSeek);
        });

        web.MapGet("/experiments/{id}/trials/{trial:int}/pictures/{name}", async (string id, int trial, string name, SiloFolders folders, IDisk disk, HttpContext http) =>
        {
            if (trial < 0 || StepPictures.Parse(name) is not { } picture || await StepPictures.ReadAsync(disk, folders.TrialWork(id, trial), picture) is not { } bytes)
                return WebPage.NotFound($"Trial {trial} of '{id}' has no such picture.");
            http.Response.Headers.CacheControl = "private, max-age=31536000, immutable";
            return Results.Bytes(bytes, "image/png", entityTag: new EntityTagHeaderValue($"\"{picture.Sha256}\""));
        });

        web.MapGet("/experiments/{id}/events", async (string id, int? skip, int? trial, IGrainFactory grains, CancellationToken cancellationToken) =>
        {
            var experiment = Experiment(grains, id);
            if (await experiment.GetSnapshotAsync(cancellationToken) is not { } snapshot)
                return WebPage.NotFound($"There is no experiment '{id}'.");
            var events = await experiment.GetEventsAsync(trial, Math.Max(0, skip ?? 0), MostEvents + 1, cancellationToken);
            return RecordPages.Events(snapshot, [.. events.Take(MostEvents)], trial, Math.Max(0, skip ?? 0), MostEvents, events.Count > MostEvents);
        });

        web.MapGet("/experiments/{id}/audit", async (string id, int? skip, IGrainFactory grains, CancellationToken cancellationToken) =>
        {
            var experiment = Experiment(grains, id);
            if (await experiment.GetSnapshotAsync(cancellationToken) is not { } snapshot)
                return WebPage.NotFound($"There is no experiment '{id}'.");
            var from = Math.Max(0, skip ?? 0);
            var audits = await Task.WhenAll(Enumerable.Range(from, Math.Clamp(snapshot.Summary.Trials - from, 0, MostAudits)).Select(trial => experiment.AuditAsync(trial, cancellationToken)));
            return RecordPages.Audit(snapshot, [.. audits.OfType<AdjointDpm.Grains.Audit.TrialAudit>()], from, MostAudits);
        });

        web.MapGet("/workers", async (IGrainFactory grains, CancellationToken cancellationToken) =>
            RecordPages.Workers(await grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).DescribeAsync(cancellationToken), silo.Dashboard));

        // A browser that asks again says which event it heard of last.
        web.MapGet("/live/experiments/{id}", (string id, long? after, [FromHeader(Name = "Last-Event-ID")] long? heard, IGrainFactory grains, TimeProvider time, CancellationToken cancellationToken) =>
            TypedResults.ServerSentEvents(LiveUpdates.OfExperiment(Experiment(grains, id), heard ?? after ?? 0, time, cancellationToken)));
        web.MapGet("/live/experiments", (int? skip, bool? all, IGrainFactory grains, TimeProvider time, CancellationToken cancellationToken) =>
            TypedResults.ServerSentEvents(LiveUpdates.OfList(grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key), Math.Max(0, skip ?? 0), all == true ? MostSearched : MostExperiments + 1, time, cancellationToken)));
        web.MapGet("/live/workers", (IGrainFactory grains, TimeProvider time, CancellationToken cancellationToken) =>
            TypedResults.ServerSentEvents(LiveUpdates.OfWorkers(grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key), time, cancellationToken)));
    }

    private static IExperimentGrain Experiment(IGrainFactory grains, string id) => grains.GetGrain<IExperimentGrain>(SiloFolders.Safe(id));

    private static async Task<TrialSnapshot?> TrialAsync(IExperimentGrain experiment, int trial, CancellationToken cancellationToken) =>
        trial < 0 ? null : await experiment.GetTrialsAsync(trial, 1, cancellationToken) is [var found] ? found : null;

    private static async ValueTask<object?> SafelyAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var headers = context.HttpContext.Response.Headers;
        headers.ContentSecurityPolicy = Policy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers.CacheControl = "no-cache";
        try
        {
            return await next(context);
        }
        catch (ArgumentException e)
        {
            return WebPage.Problem(StatusCodes.Status400BadRequest, "That cannot be shown", e.Message);
        }
        catch (Exception e) when (e is TimeoutException or Orleans.Runtime.OrleansException or ArtifactException or IOException && !context.HttpContext.RequestAborted.IsCancellationRequested)
        {
            return WebPage.Problem(StatusCodes.Status503ServiceUnavailable, "The cluster does not answer", $"{(e is TimeoutException ? "No answer came in time." : e.Message)} Load the page again in a moment.");
        }
    }

    /// <summary>What a browser may show; all else is saved.</summary>
    private static string? TypeOf(string name) => Path.GetExtension(name) switch
    {
        ".png" => "image/png",
        ".svg" => "image/svg+xml",
        ".json" or ".jsonl" or ".txt" => "text/plain; charset=utf-8",
        _ => null,
    };

    private static (string, string, byte[], string) Asset(string name, string type, string before)
    {
        using var stream = typeof(WebEndpoints).Assembly.GetManifestResourceStream(name)!;
        using var reader = new StreamReader(stream);
        var bytes = System.Text.Encoding.UTF8.GetBytes(before + "\n" + reader.ReadToEnd());
        return (name, type, bytes, $"\"{Convert.ToHexStringLower(SHA256.HashData(bytes))[..16]}\"");
    }
}

/// <summary>Which trials of an experiment a page shows, as its address says.</summary>
internal sealed partial class TrialListing
{
    /// <summary>Conditions, with spaces or commas between them.</summary>
    public string? Where { get; set; }

    public string? Sort { get; set; }

    public bool? Desc { get; set; }

    public int? Skip { get; set; }

    public int From => Math.Max(0, Skip ?? 0);

    /// <exception cref="ArgumentException">A condition is none.</exception>
    public TrialQuery Query(int take) => new()
    {
        Where = [.. AroundSigns().Replace(Where ?? "", "$1").Split([' ', ',', ';'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(TrialCondition.Parse)],
        Sort = string.IsNullOrWhiteSpace(Sort) ? null : Sort.Trim(),
        Descending = Desc ?? false,
        Skip = From,
        Take = take,
    };

    /// <summary>People write spaces around a sign, or none.</summary>
    [GeneratedRegex(@"\s*(<=|>=|!=|[<>=])\s*")]
    private static partial Regex AroundSigns();

    /// <summary>The address of the same page with other choices.</summary>
    public string Address(string path, int? skip = null, string? sort = null, bool? descending = null) => WebPage.Address(path,
        ("where", Where), ("sort", sort ?? Sort), ("desc", descending ?? Desc ?? false ? "true" : null), ("skip", skip is > 0 ? skip.Value.ToString(CultureInfo.InvariantCulture) : null));
}
