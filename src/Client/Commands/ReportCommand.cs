using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Reporting;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ReportCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("report", "Write what an experiment gave as one page for the browser, with pictures, charts, the gradient's proof and all that is needed to repeat it. Several are compared.");
        var ids = new Argument<string[]>("ID") { Description = "Id of an ended experiment, the beginning of one, or the folder of its results.", Arity = ArgumentArity.OneOrMore };
        var output = new Option<string?>("--output", "-o") { Description = "File to write; the numbers go to a .verdict.json beside it. Default: report.html in the experiment's folder.", HelpName = "file" };
        command.Arguments.Add(ids);
        command.Options.Add(output);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var folders = new List<string>();
            foreach (var text in parsed.GetRequiredValue(ids)) folders.Add(await FolderAsync(parsed, text, cancellationToken));
            var written = ReportWriter.Write(folders, parsed.GetValue(output) is { } name ? Path.GetFullPath(Path.Combine(context.CurrentDirectory, name)) : null, context.Time);
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(written.Document);
                return ExitCodes.Ok;
            }

            foreach (var verdict in written.Verdicts)
            {
                if (written.Verdicts.Count > 1) context.Terminal.Line($"[bold]{Markup.Escape(verdict.Id)}[/]");
                foreach (var sentence in verdict.Sentences) context.Terminal.Line(Markup.Escape(sentence));
            }

            context.Terminal.Line();
            context.Terminal.Line($"Page     {Markup.Escape(context.Short(written.Page))}");
            context.Terminal.Line($"Numbers  {Markup.Escape(context.Short(written.Numbers))}");
            return ExitCodes.Ok;
        });
        return command;

        async Task<string> FolderAsync(ParseResult parsed, string text, CancellationToken cancellationToken)
        {
            var given = Path.GetFullPath(Path.Combine(context.CurrentDirectory, text));
            if (Directory.Exists(given) && (File.Exists(Path.Combine(given, "report.json")) || text.Contains('/', StringComparison.Ordinal))) return given;
            var where = target.Target(parsed, context);
            if (where.DataFolder is { } data)
            {
                var root = Path.Combine(data, "experiments");
                string[] known = Directory.Exists(root) ? [.. Directory.GetDirectories(root).Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal)] : [];
                return Path.Combine(root, ExperimentLookup.Among(known, text, $"The data folder '{data}' holds no results of any experiment yet."));
            }

            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var folder = (await ExperimentLookup.FindAsync(cluster, text, cancellationToken)).ArtifactFolder;
                return !ArtifactList.IsAddress(folder) && Directory.Exists(folder) ? folder
                    : throw new CommandFailure(ExitCodes.Failed, $"The results of '{text}' are at {folder}, which this machine does not see.", "Copy that folder here and give it in place of the id.");
            }
        }
    }
}
