using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Models;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ModelsCommand
{
    public const string Variable = "ADPM_MODELS";

    public static Command Create(ClientContext context)
    {
        var command = new Command("models", "Models on this machine.");
        var list = new Command("ls", $"List the models on this machine: those in the Hugging Face cache (HF_HUB_CACHE, HF_HOME) and in the folders of {Variable} and --folder. Nothing is downloaded.");
        var folder = new Option<string[]>("--folder") { Description = $"Another folder with models, such as an interface's. Repeatable; ${Variable} names several, apart by '{Path.PathSeparator}'.", HelpName = "folder", Arity = ArgumentArity.OneOrMore };
        var all = new Option<bool>("--all") { Description = "Also list what is of a kind that is not read here." };
        var json = SharedOptions.Json();
        foreach (var option in new Option[] { folder, all, json }) list.Options.Add(option);
        list.SetAction(async (parsed, cancellationToken) =>
        {
            var cache = HuggingFaceCache.Open(context.Variable);
            var configured = (context.Variable(Variable) ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            List<string> folders = [.. configured.Concat(parsed.GetValue(folder) ?? []).Select(path => Path.GetFullPath(path, context.CurrentDirectory)).Distinct()];
            if (folders.FirstOrDefault(path => !Directory.Exists(path)) is { } missing)
                throw new CommandFailure(ExitCodes.Invalid, $"There is no folder '{missing}'.", $"Check --folder and {Variable}.");
            var answer = await ToolRun.AskAsync(context, new ModelsRequest(cache.Folder, folders), cancellationToken);
            var models = (answer.Models ?? []).Where(model => parsed.GetValue(all) || model.Kind != "other").ToList();
            if (parsed.GetValue(json))
                context.Terminal.WriteRaw(ClientJson.Text(new ModelsDocument([cache.Folder, .. folders], models)));
            else if (models.Count == 0)
                context.Terminal.Note(Markup.Escape($"No models. Looked in: {string.Join(", ", folders.Prepend(cache.Folder))}."));
            else
                Show(context, models);
            return ExitCodes.Ok;
        });
        command.Subcommands.Add(list);
        return command;
    }

    private static void Show(ClientContext context, List<ToolModel> models)
    {
        var rows = models.Select(m => (Name: m.Name, m.Kind, Size: Words.Size(m.Bytes), Precision: string.Join("+", m.Precision), Model: m.Model ?? "", m.Problem)).ToList();
        var (name, kind, precision) = (rows.Max(r => r.Name.Length), rows.Max(r => r.Kind.Length), Math.Max(9, rows.Max(r => r.Precision.Length)));
        context.Terminal.Line(Markup.Escape($"{"name".PadRight(name)}  {"kind".PadRight(kind)}  {"size",8}  {"precision".PadRight(precision)}  model"));
        foreach (var row in rows)
        {
            context.Terminal.Line(Markup.Escape($"{row.Name.PadRight(name)}  {row.Kind.PadRight(kind)}  {row.Size,8}  {row.Precision.PadRight(precision)}  {row.Model}".TrimEnd()));
            if (row.Problem is not null)
                context.Terminal.Line($"  [yellow]{Markup.Escape(row.Problem)}[/]");
        }
    }
}
