using System.Text;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authentication.JwtBearer;

namespace AdjointDpm.Silo.Security;

/// <summary>Lets nobody past health whom the users file does not know, or, without users, who shows no certificate of the cluster.</summary>
/// <remarks>Tokens come as <c>Authorization: Bearer</c>, or as the password of Basic, which browsers ask for by themselves.</remarks>
internal sealed class HttpAccess(RequestDelegate next, SecurityHostOptions security, FailedAttempts failed, AuditLog audit, IGrainFactory grains, ILogger<HttpAccess> logger, TlsFolder? tls = null, UsersFile? users = null)
{
    /// <summary>Where Orleans' own dashboard is. It shows the grains of all projects, and so to admins only.</summary>
    public const string Dashboard = "/dashboard";

    private static readonly string[] OfExperiments = ["experiments", "live/experiments"];

    public async Task InvokeAsync(HttpContext http)
    {
        // A page elsewhere that the browser of a user has open must not act in the user's name.
        if (!HttpMethods.IsGet(http.Request.Method) && !HttpMethods.IsHead(http.Request.Method) && http.Request.Headers["Sec-Fetch-Site"].ToString() is not ("" or "same-origin" or "none"))
        {
            await RefuseAsync(http, StatusCodes.Status403Forbidden, "Requests that change something are taken from this host's own pages only.");
            return;
        }
        if (http.Request.Path.StartsWithSegments("/health") || (security.OpenMetrics && http.Request.Path.StartsWithSegments(AdjointDpmCluster.MetricsPath)))
        {
            await next(http);
            return;
        }
        if (users is null)
        {
            if (tls is not null && security.RequireClientCertificate && http.Connection.ClientCertificate is null)
                await RefuseAsync(http, StatusCodes.Status401Unauthorized, "This needs a certificate of the cluster's authority.");
            else
                await next(http);
            return;
        }
        Caller? caller = null;
        if (Token(http.Request) is { } token && !users.TryFind(token, out caller) && security.OidcAuthority is not null)
            caller = await ByIssuerAsync(http);
        if (caller is null)
        {
            // Many share an address behind a port-forward or an ingress: who has a right token never gets here.
            if (http.Request.Headers.Authorization.Count > 0 && SiloSecurity.NoteFailure(failed, audit, logger, "HTTP", http.Connection.RemoteIpAddress))
            {
                await RefuseAsync(http, StatusCodes.Status429TooManyRequests, SiloSecurity.Words.Blocked);
                return;
            }
            http.Response.Headers.WWWAuthenticate = "Basic realm=\"AdjointDpm: any name, the token as password\", charset=\"UTF-8\"";
            await RefuseAsync(http, StatusCodes.Status401Unauthorized, http.Request.Headers.Authorization.Count > 0 ? SiloSecurity.Words.Unknown : "This needs a user's token: Authorization: Bearer TOKEN, or as the password of Basic.");
            return;
        }
        // Metrics name the experiments of all projects.
        if (http.Request.Path.StartsWithSegments(AdjointDpmCluster.MetricsPath) && !caller.SeesAll)
        {
            await RefuseAsync(http, StatusCodes.Status403Forbidden, $"Metrics tell of all projects, so they take a user of project * or the role admin, but {caller.Name} has {caller.Role.ToString().ToLowerInvariant()} in project {caller.Project}.");
            return;
        }
        if (caller.Role < Role.Submit && !HttpMethods.IsGet(http.Request.Method) && !HttpMethods.IsHead(http.Request.Method))
        {
            await RefuseAsync(http, StatusCodes.Status403Forbidden, $"This takes the role submit, but {caller.Name} has view.");
            return;
        }
        if (http.Request.Path.StartsWithSegments(Dashboard))
        {
            if (caller.Role < Role.Admin)
                await RefuseAsync(http, StatusCodes.Status403Forbidden, $"The dashboard takes the role admin, but {caller.Name} has {caller.Role.ToString().ToLowerInvariant()}.");
            else
                await next(http);
            return;
        }
        // Grains see the caller, not the cluster, behind what is asked from here on.
        RequestContext.Set(CallGate.AskingEntry, caller.ToText());
        try
        {
            // Files are handed out without a grain; so the experiment is asked first whose it is.
            if (Experiment(http.Request.Path) is { } id)
                _ = await grains.GetGrain<IExperimentGrain>(id).GetTrialsAsync(0, 0, http.RequestAborted);
            await next(http);
        }
        catch (UnauthorizedAccessException e) when (!http.Response.HasStarted)
        {
            await RefuseAsync(http, StatusCodes.Status403Forbidden, e.Message);
        }
        finally
        {
            RequestContext.Remove(CallGate.AskingEntry);
        }
    }

    /// <summary>Who an issuer's token says it is: checked by ASP.NET for signature, issuer, audience and time.</summary>
    private async Task<Caller?> ByIssuerAsync(HttpContext http)
    {
        var result = await http.AuthenticateAsync(JwtBearerDefaults.AuthenticationScheme);
        return result.Principal is { } user
            && user.FindFirst(security.OidcNameClaim)?.Value is { Length: > 0 and <= 200 } name && !name.Contains('\n', StringComparison.Ordinal)
            && user.FindFirst(security.OidcProjectClaim)?.Value is { Length: > 0 and <= 100 } project && !project.Contains('\n', StringComparison.Ordinal) && (project != Caller.AllProjects || security.OidcAllProjects)
            && user.FindFirst(security.OidcRoleClaim)?.Value is { } word && Enum.TryParse<Role>(word, ignoreCase: true, out var role) && Enum.IsDefined(role) && !int.TryParse(word, out _)
            ? new Caller(name, project, role)
            : null;
    }

    private static string? Experiment(PathString path)
    {
        foreach (var prefix in OfExperiments)
            if (path.StartsWithSegments("/" + prefix, out var rest) && rest.Value is { Length: > 1 } tail && tail[1..].Split('/')[0] is { Length: > 0 } id)
                return id;
        return null;
    }

    private static string? Token(HttpRequest request)
    {
        var header = request.Headers.Authorization.ToString();
        if (header.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase))
            return header["Bearer ".Length..].Trim();
        if (!header.StartsWith("Basic ", StringComparison.OrdinalIgnoreCase))
            return null;
        Span<byte> decoded = stackalloc byte[1024];
        if (!Convert.TryFromBase64String(header["Basic ".Length..].Trim(), decoded, out var length))
            return null;
        var pair = Encoding.UTF8.GetString(decoded[..length]);
        return pair.IndexOf(':', StringComparison.Ordinal) is >= 0 and var colon ? pair[(colon + 1)..] : null;
    }

    private static async Task RefuseAsync(HttpContext http, int status, string sentence)
    {
        http.Response.StatusCode = status;
        http.Response.ContentType = "text/plain; charset=utf-8";
        http.Response.Headers.CacheControl = "no-store";
        await http.Response.WriteAsync(sentence + "\n", http.RequestAborted);
    }
}
