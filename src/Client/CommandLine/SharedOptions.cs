using System.CommandLine;
using AdjointDpm.Client.Connection;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Options and arguments that several commands have. Made anew for each: an option belongs to one command.</summary>
internal static class SharedOptions
{
    public static Argument<string> SpecFile() => new("FILE") { Description = "The experiment, a YAML file." };

    public static Argument<string> ExperimentId(ClientContext context)
    {
        var id = new Argument<string>("ID") { Description = "Id of the experiment, its name, or the beginning of either when that is clear." };
        id.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: false));
        return id;
    }

    public static Option<bool> Json() => new("--json") { Description = "Print the result as JSON, with a versioned schema, on standard output." };

    public static Option<string[]> Set() => new("--set")
    {
        Description = "Set one value of the spec, such as optimizer.learningRate=3e-4. Repeatable.", HelpName = "path=value", Arity = ArgumentArity.OneOrMore,
    };

    /// <summary>Refuses whole numbers outside of a range. What is no number, the option itself refuses.</summary>
    public static T Within<T>(this T option, long least, long most = long.MaxValue)
        where T : Option
    {
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && long.TryParse(result.Tokens[0].Value, out var n) && (n < least || n > most))
                result.AddError(most == long.MaxValue ? $"{option.Name} must be {least} or more." : $"{option.Name} must be from {least} to {most}.");
        });
        return option;
    }
}

/// <summary>Where the cluster is.</summary>
internal sealed class TargetOptions
{
    private readonly Option<string[]> _gateway = new("--gateway")
    {
        Description = "A gateway of the cluster. Repeatable.", HelpName = "host:port", Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _data = new("--data")
    {
        Description = $"Output folder of a cluster on this machine. Without either: ${ClusterTarget.Variable}, else ./{ClusterTarget.DefaultFolder} when a cluster has run there, else 127.0.0.1:30000. --gateway goes before --data.",
        HelpName = "folder",
    };

    private readonly Option<string?> _tls = new("--tls-folder")
    {
        Description = $"ca.crt, and tls.crt and tls.key where asked for, of a secured cluster. Without: ${TlsVariable}.", HelpName = "folder",
    };

    private readonly Option<string?> _token = new("--token-file")
    {
        Description = $"File with your token for a secured cluster. Without: ${TokenVariable}.", HelpName = "file",
    };

    public const string TlsVariable = "ADJOINTDPM_TLS_FOLDER";

    public const string TokenVariable = "ADJOINTDPM_TOKEN_FILE";

    public TargetOptions(Command command)
    {
        command.Options.Add(_gateway);
        command.Options.Add(_data);
        command.Options.Add(_tls);
        command.Options.Add(_token);
    }

    /// <summary>Whether a gateway was named: its silos may be anywhere.</summary>
    public bool IsElsewhere(ParseResult parsed, ClientContext context) =>
        parsed.GetValue(_gateway) is { Length: > 0 } || (parsed.GetValue(_data) is null && context.Variable(ClusterTarget.Variable) is { Length: > 0 });

    public bool Given(ParseResult parsed, ClientContext context) =>
        parsed.GetValue(_gateway) is { Length: > 0 } || parsed.GetValue(_data) is not null || context.Variable(ClusterTarget.Variable) is { Length: > 0 };

    public ClusterTarget Target(ParseResult parsed, ClientContext context) => ClusterTarget.Resolve(parsed.GetValue(_gateway) ?? [], parsed.GetValue(_data), context) with
    {
        TlsFolder = Given(_tls, TlsVariable, parsed, context),
        TokenFile = Given(_token, TokenVariable, parsed, context),
    };

    private static string? Given(Option<string?> option, string variable, ParseResult parsed, ClientContext context) =>
        (parsed.GetValue(option) ?? context.Variable(variable)) is { Length: > 0 } path ? Path.GetFullPath(Path.Combine(context.CurrentDirectory, path)) : null;

    /// <summary>Connects, and says so when a person waits for it.</summary>
    public async Task<(IClusterConnection Cluster, ClusterTarget Target)> ConnectAsync(ParseResult parsed, ClientContext context, CancellationToken cancellationToken)
    {
        var target = Target(parsed, context);
        if (context.Terminal.Live) context.Terminal.Note($"[grey]Connecting to {Spectre.Console.Markup.Escape(target.ToString())}[/]");
        return (await context.Connect(target, cancellationToken), target);
    }
}
