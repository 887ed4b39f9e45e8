using System.CommandLine;
using System.CommandLine.Invocation;
using AdjointDpm.Client.Commands;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using Spectre.Console;

namespace AdjointDpm.Client.CommandLine;

/// <summary>The program: parses, runs a command, turns every failure into a message and an exit code.</summary>
internal static class AdpmCommandLine
{
    private const string Description =
        "Finetunes diffusion models with the gradient of a loss on the generated sample.\n\n"
        + "Results go to standard output, progress to standard error. "
        + "Exit codes: 0 ok, 1 failed, 2 invalid spec or usage, 3 cluster unreachable, 4 gradient not proven or loss not fit, 130 interrupted.";

    /// <summary>In the order of <c>adpm --help</c>.</summary>
    internal static (string Name, Func<ClientContext, Command> Create)[] Commands { get; } =
    [
        ("demo", DemoCommand.Create),
        ("init", InitCommand.Create),
        ("run", RunCommand.Create),
        ("check", CheckCommand.Create),
        ("check-reward", CheckRewardCommand.Create),
        ("plan", PlanCommand.Create),
        ("submit", SubmitCommand.Create),
        ("watch", WatchCommand.Create),
        ("ls", ListCommand.Create),
        ("show", ShowCommand.Create),
        ("trials", TrialsCommand.Create),
        ("events", EventsCommand.Create),
        ("logs", LogsCommand.Create),
        ("diff", DiffCommand.Create),
        ("grid", GridCommand.Create),
        ("top", TopCommand.Create),
        ("pause", ControlCommands.Pause),
        ("resume", ControlCommands.Resume),
        ("cancel", ControlCommands.Cancel),
        ("retry", ControlCommands.Retry),
        ("edit", ControlCommands.Edit),
        ("workers", WorkersCommand.Create),
        ("report", ReportCommand.Create),
        ("audit", AuditCommand.Create),
        ("replay", ReplayCommand.Create),
        ("pull", PullCommand.Create),
        ("inspect", InspectCommand.Create),
        ("convert", ConvertCommand.Create),
        ("sample", SampleCommand.Create),
        ("score", ScoreCommand.Create),
        ("models", ModelsCommand.Create),
        ("config", ConfigCommand.Create),
        ("import", ImportCommand.Create),
        ("schema", SchemaCommand.Create),
        ("certificates", CertificatesCommand.Create),
        ("users", UsersCommand.Create),
        ("completion", CompletionCommand.Create),
        ("doctor", DoctorCommand.Create),
    ];

    /// <summary>The program's commands.</summary>
    /// <param name="context">What they work with.</param>
    /// <param name="only">Name of the one that will be run, where it is known: building the others takes longer than their parsing.</param>
    public static RootCommand Root(ClientContext context, string? only = null)
    {
        var root = new RootCommand(Description);
        var named = Commands.Where(command => command.Name == only).ToArray();
        foreach (var (_, create) in named.Length > 0 ? named : Commands)
            root.Add(create(context));
        return root;
    }

    public static async Task<int> InvokeAsync(string[] args, ClientContext context, TextWriter output, CancellationToken cancellationToken)
    {
        var parsed = Root(context, args.FirstOrDefault()).Parse(args.Length == 0 ? ["--help"] : args);
        var json = parsed.Tokens.Any(token => token.Value == "--json");
        if (parsed.Action is ParseErrorAction)
        {
            var command = string.Join(' ', Path(parsed.CommandResult));
            var unknown = parsed.UnmatchedTokens.Count > 0 && parsed.CommandResult.Parent is null ? $"'{parsed.UnmatchedTokens[0]}' is not a command." : null;
            return Fail(context, json, ExitCodes.Invalid, unknown ?? string.Join(' ', parsed.Errors.Select(error => error.Message)), $"See '{command} --help'.");
        }

        try
        {
            // Signals and exceptions are ours: a second Ctrl-C must kill, and exit codes mean something.
            var configuration = new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null, Output = output };
            return await parsed.InvokeAsync(configuration, cancellationToken);
        }
        catch (CommandFailure e)
        {
            return Fail(context, json, e.ExitCode, e.Message, e.Advice);
        }
        catch (SpecFailure e)
        {
            return Fail(context, json, e);
        }
        catch (ClusterUnreachableException e)
        {
            return Fail(context, json, ExitCodes.Unreachable, e.Message, "Start a cluster with 'adpm run FILE', or name one with --gateway host:port or --data folder.");
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            return ExitCodes.Interrupted;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException or InvalidOperationException or ArgumentException or Orleans.Runtime.OrleansException)
        {
            // What a cluster refuses arrives as the exception that it threw.
            return Fail(context, json, ExitCodes.Failed, e.Message, null);
        }
        catch (Exception e) when (context.Variable("ADPM_DEBUG") is not { Length: > 0 })
        {
            // A fault of this program or of a cluster of another version: still a sentence and a code, never an abort.
            return Fail(context, json, ExitCodes.Failed, $"{e.GetType().Name}: {e.Message}", "This is a fault of adpm. Run again with ADPM_DEBUG=1 to see where, and report it with the output of 'adpm doctor'.");
        }
    }

    private static int Fail(ClientContext context, bool json, int exitCode, string message, string? advice)
    {
        context.Terminal.Note($"[red]error:[/] {Markup.Escape(message)}");
        if (advice is not null) context.Terminal.Note(Markup.Escape(advice));
        if (json) context.Terminal.WriteRaw(ClientJson.Text(new ErrorDocument(exitCode, message, advice, [])));
        return exitCode;
    }

    private static int Fail(ClientContext context, bool json, SpecFailure failure)
    {
        ProblemView.Show(context.Terminal.Error, failure.Problems, failure.Lines);
        context.Terminal.Note($"[red]{Words.Count(failure.Problems.Count, "error")}.[/] Nothing was started.");
        if (json) context.Terminal.WriteRaw(ClientJson.Text(new ErrorDocument(ExitCodes.Invalid, failure.Message, null, [.. failure.Problems.Select(ProblemDocument.Of)])));
        return ExitCodes.Invalid;
    }

    private static IEnumerable<string> Path(System.CommandLine.Parsing.CommandResult result) =>
        (result.Parent is System.CommandLine.Parsing.CommandResult parent ? Path(parent) : []).Append(result.Parent is null ? "adpm" : result.Command.Name);
}
