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

    public static RootCommand Root(ClientContext context)
    {
        var root = new RootCommand(Description)
        {
            DemoCommand.Create(context), InitCommand.Create(context), RunCommand.Create(context), CheckCommand.Create(context), CheckRewardCommand.Create(context), PlanCommand.Create(context), SubmitCommand.Create(context), WatchCommand.Create(context), ListCommand.Create(context),
            ShowCommand.Create(context), TrialsCommand.Create(context), EventsCommand.Create(context), LogsCommand.Create(context), DiffCommand.Create(context), GridCommand.Create(context), TopCommand.Create(context), ControlCommands.Pause(context), ControlCommands.Resume(context), ControlCommands.Cancel(context), ControlCommands.Retry(context), ControlCommands.Edit(context), WorkersCommand.Create(context), ReportCommand.Create(context), AuditCommand.Create(context), ReplayCommand.Create(context), PullCommand.Create(context), InspectCommand.Create(context), ConvertCommand.Create(context), SampleCommand.Create(context), ScoreCommand.Create(context), ModelsCommand.Create(context), ConfigCommand.Create(context), ImportCommand.Create(context), SchemaCommand.Create(context), CertificatesCommand.Create(context), UsersCommand.Create(context), CompletionCommand.Create(context), DoctorCommand.Create(context),
        };
        return root;
    }

    public static async Task<int> InvokeAsync(string[] args, ClientContext context, TextWriter output, CancellationToken cancellationToken)
    {
        var parsed = Root(context).Parse(args.Length == 0 ? ["--help"] : args);
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
