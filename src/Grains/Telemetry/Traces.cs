using System.Diagnostics;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Spans of one experiment, as one trace across silos: submit, trial, step, shard, reduce, commit. Nobody listening, nothing is made.</summary>
/// <remarks>Within a call Orleans carries the span on (AddActivityPropagation). What begins later, by a timer or after a crash, begins with the id that is stored with the state.</remarks>
internal static class Traces
{
    public const string SourceName = "AdjointDpm";

    private static readonly ActivitySource Source = new(SourceName);

    /// <summary>A span within the one that is under way here.</summary>
    public static Activity? Start(string name) => Source.StartActivity(name);

    /// <summary>A span within one that began elsewhere or long ago.</summary>
    /// <param name="name">Name.</param>
    /// <param name="parent">Its id as W3C writes it; null for none.</param>
    public static Activity? Start(string name, string? parent)
    {
        // What happens to be under way here is another's call.
        var ambient = Activity.Current;
        if (!ActivityContext.TryParse(parent, null, isRemote: true, out var context))
            Activity.Current = null;
        return Source.StartActivity(name, ActivityKind.Internal, context) ?? Restore(ambient);
    }

    /// <summary>A shard, on its coordinator or on its worker.</summary>
    public static Activity? Shard(string name, in ShardToken token) =>
        Start(name)?.SetTag("adjointdpm.trial", token.Trial).SetTag("adjointdpm.work", token.Kind.ToString()).SetTag("adjointdpm.step", token.Step).SetTag("adjointdpm.shard", token.Shard).SetTag("adjointdpm.attempt", token.Attempt);

    /// <summary>Marks a span as failed.</summary>
    public static void Fail(this Activity? activity, string reason) => activity?.SetStatus(ActivityStatusCode.Error, reason);

    private static Activity? Restore(Activity? ambient)
    {
        Activity.Current = ambient;
        return null;
    }
}
