using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

/// <summary>Writes one of the recipes, which are the files of examples/ themselves.</summary>
internal static class InitCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("init", "Write a commented experiment to begin with: one of the applications, as it runs on the example models. For a model of your own change the paths.");
        var name = new Argument<string>("RECIPE") { Description = "Which one.\n" + string.Join('\n', Recipes.All.Select(recipe => $"{recipe.Name}: {recipe.What}")), HelpName = "RECIPE" };
        name.AcceptOnlyFromAmong([.. Recipes.All.Select(recipe => recipe.Name)]);
        var file = new Argument<string?>("FILE") { Description = "Where to. Default: standard output.", Arity = ArgumentArity.ZeroOrOne };
        var force = new Option<bool>("--force") { Description = "Write over a file that is there." };
        command.Arguments.Add(name);
        command.Arguments.Add(file);
        var json = SharedOptions.Json();
        command.Options.Add(force);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var text = Recipes.Read(parsed.GetRequiredValue(name));
            if (parsed.GetValue(file) is not { } given)
            {
                context.Terminal.WriteRaw(text.TrimEnd('\n'));
                return ExitCodes.Ok;
            }

            var path = Path.GetFullPath(given, context.CurrentDirectory);
            if (Path.GetDirectoryName(path) is { Length: > 0 } folder) Directory.CreateDirectory(folder);
            try
            {
                await using var stream = new FileStream(path, parsed.GetValue(force) ? FileMode.Create : FileMode.CreateNew);
                await using var writer = new StreamWriter(stream);
                await writer.WriteAsync(text.AsMemory(), cancellationToken);
            }
            catch (IOException e) when (File.Exists(path) && !parsed.GetValue(force))
            {
                throw new CommandFailure(ExitCodes.Failed, $"'{given}' is there already.", "Name another file, or write over it with --force.", e);
            }

            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new FilesDocument([path], null)));
            context.Terminal.Note(Markup.Escape($"Wrote {given}. Set its paths, which start from its folder; then: adpm run {given}"));
            return ExitCodes.Ok;
        });
        return command;
    }
}

/// <summary>The recipes: resources of this program, and the same files as in examples/.</summary>
internal static class Recipes
{
    /// <summary>Name, file in examples/, and what it does.</summary>
    public static IReadOnlyList<(string Name, string File, string What)> All { get; } =
    [
        ("guide", "guide.yaml", "move the noise x_T until a classifier sees the class that is asked for"),
        ("stylize", "stylize-digits.yaml", "finetune weights towards the style of one picture"),
        ("invert", "invert.yaml", "find the conditioning that draws a given picture"),
        ("audit", "audit.yaml", "move x_T within a box until a classifier is wrong: success rate under a budget"),
        ("guided-sample", "guided-sample.yaml", "guide samples by a loss while they are drawn, without training"),
        ("reward", "reward.yaml", "finetune a LoRA on a reward: DRaFT, AlignProp, ReFL, adjoint matching or the exact gradient"),
    ];

    /// <summary>The file's text.</summary>
    public static string Read(string name)
    {
        var file = All.First(recipe => recipe.Name == name).File;
        using var stream = typeof(Recipes).Assembly.GetManifestResourceStream($"recipes/{file}")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
