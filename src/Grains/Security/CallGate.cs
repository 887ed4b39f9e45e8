using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;
using Orleans.Serialization.Invocation;

namespace AdjointDpm.Grains.Security;

/// <summary>Stands before every grain of a silo with users: calls of the cluster's own pass, calls from outside need a user who may make them.</summary>
/// <remarks>
/// A client can call any grain, the runtime's own included, and write any sender into a message. So nothing of a message is believed but
/// what its request context proves: the cluster's key, which silos add to every call they make, or a user's token. What is not listed here is refused.
/// </remarks>
internal sealed class CallGate(UsersFile users, ClusterKey key, SubmissionRules rules, AuditLog audit, IGrainFactory grains) : IIncomingGrainCallFilter, IOutgoingGrainCallFilter
{
    /// <summary>Entry of the request context in which the HTTP port names the user that it asks for.</summary>
    public const string AskingEntry = "adjointdpm.asking";

    /// <summary>What Orleans' own client asks of a silo: who is in the cluster, and to end a call that it made.</summary>
    private static readonly string[] OfTheRuntime = ["Orleans.Runtime.IClusterManifestSystemTarget", "Orleans.Runtime.IGrainCallCancellationExtension"];

    Task IOutgoingGrainCallFilter.Invoke(IOutgoingGrainCallContext context)
    {
        if (!context.TargetId.IsClient())
            RequestContext.Set(ClusterKey.Entry, key.Shown);
        return context.Invoke();
    }

    async Task IIncomingGrainCallFilter.Invoke(IIncomingGrainCallContext context)
    {
        var (inside, asking, token) = (key.Accepts(RequestContext.Get(ClusterKey.Entry)), RequestContext.Get(AskingEntry) as string, RequestContext.Get(ClientCredentials.TokenEntry) as string);
        if (inside && asking is null)
        {
            await context.Invoke();
            return;
        }
        RequestContext.Remove(AskingEntry);
        RequestContext.Remove(ClientCredentials.TokenEntry);
        RequestContext.Remove(ClusterKey.Entry);
        var caller = inside ? Caller.Parse(asking) : token is not null && users.TryFind(token, out var found) ? found : null;
        // Whatever a client claims here, this is who calls from now on.
        Caller.Current = caller;
        var (action, target, recorded, least) = Classify(context);
        try
        {
            if (caller is null)
                throw new UnauthorizedAccessException("This cluster knows its users by token, and the call showed none that it knows. Give --token-file FILE or set ADJOINTDPM_TOKEN_FILE.");
            if (least is null)
                throw new UnauthorizedAccessException($"'{action}' is not for clients.");
            if (caller.Role < least)
                throw new UnauthorizedAccessException($"To {action} takes the role {least.ToString()!.ToLowerInvariant()}, but {caller.Name} has {caller.Role.ToString().ToLowerInvariant()} in project {caller.Project}.");
            await DemandAsync(context, caller);
            await context.Invoke();
            if (recorded)
                audit.Add(caller, action, target, "done", Detail(context));
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            if (recorded || e is UnauthorizedAccessException)
                audit.Add(caller, action, target, e is UnauthorizedAccessException ? "refused" : "failed", e.Message);
            throw;
        }
    }

    /// <summary>What a call is, whether it is written down, and who may make it; null: nobody.</summary>
    private static (string Action, string Target, bool Recorded, Role? Least) Classify(IIncomingGrainCallContext context)
    {
        IInvokable request = context.Request;
        // Streams of events come wrapped.
        if (request.GetInterfaceType() == typeof(IAsyncEnumerableGrainExtension))
        {
            if (context.InterfaceMethod.Name is not nameof(IAsyncEnumerableGrainExtension.StartEnumeration))
                return ("follow", Target(context), false, Role.View);
            if (request.GetArgument(1) is not IInvokable inner)
                return ("follow", Target(context), false, null);
            request = inner;
        }
        var (type, method) = (request.GetInterfaceType(), request.GetMethod().Name);
        var target = Target(context);
        if (type == typeof(IExperimentGrain))
            return method switch
            {
                nameof(IExperimentGrain.SubmitAsync) => ("submit", target, true, Role.Submit),
                nameof(IExperimentGrain.CancelAsync) => ("cancel", target, true, Role.Submit),
                nameof(IExperimentGrain.ControlAsync) => (context.Request.GetArgument(0) is ExperimentControl control ? control.Verb.ToString().ToLowerInvariant() : "control", target, true, Role.Submit),
                _ when method.StartsWith("Get", StringComparison.Ordinal) || method.StartsWith("Find", StringComparison.Ordinal) || method.StartsWith("Watch", StringComparison.Ordinal) || method == nameof(IExperimentGrain.AuditAsync) => ("look at", target, false, Role.View),
                _ => (method, target, false, null),
            };
        if (type == typeof(IStepReplayGrain))
            return ("replay", target, true, Role.Submit);
        if (type == typeof(IExperimentDirectoryGrain))
            return ("list", target, false, method == nameof(IExperimentDirectoryGrain.ListAsync) ? Role.View : null);
        if (type == typeof(IWorkerDirectoryGrain))
            // Messages name the experiments of every project.
            return method == nameof(IWorkerDirectoryGrain.GetLogsAsync) ? ("read logs", target, true, Role.Admin)
                : method == nameof(IWorkerDirectoryGrain.CordonAsync) ? ("cordon", string.Join(", ", context.Request.GetArgument(0) as IEnumerable<string> ?? []), true, Role.Admin) : ("list workers", target, false, Role.View);
        return ($"{type.Name}.{method}", target, false, OfTheRuntime.Contains(type.FullName) ? Role.View : null);
    }

    private static string Target(IIncomingGrainCallContext context) => context.TargetId.Key.ToString()!;

    private static string? Detail(IIncomingGrainCallContext context) => context.Result switch
    {
        SubmitReceipt receipt => receipt.Existed ? "it was there already" : $"{receipt.Trials} trials",
        ControlReceipt receipt => receipt.Message,
        _ => null,
    };

    /// <summary>What depends on the arguments. Whose experiment it is, the experiment itself knows.</summary>
    private async Task DemandAsync(IIncomingGrainCallContext context, Caller caller)
    {
        if (context.Request.GetInterfaceType() == typeof(IStepReplayGrain) && Target(context) is var key && key.LastIndexOf('/') is > 0 and var slash)
            _ = await grains.GetGrain<IExperimentGrain>(key[..slash]).GetTrialsAsync(0, 0);
        if (context.Request.GetInterfaceType() == typeof(IExperimentGrain) && context.Request.GetArgumentCount() > 0)
            switch (context.Request.GetArgument(0))
            {
                case ExperimentSubmission submission:
                    rules.Demand(submission, caller);
                    break;
                case ExperimentControl { Verb: ControlVerb.Edit } edit:
                    rules.Demand(edit, caller);
                    break;
            }
    }
}
