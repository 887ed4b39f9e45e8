using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Commands;

internal static class DemoCommand
{
    private const string Example = "examples/stylize-digits.yaml";
    private const int Steps = 6, SamplerSteps = 8, Judged = 20;

    public static Command Create(ClientContext context)
    {
        var command = new Command("demo", "See it work in a minute: finetunes a small diffusion model of digits through its sampler on two silos, proves the gradient, and writes a page about it.");
        var silos = new Option<int>("--silos") { Description = "Silo processes, each with one worker.", DefaultValueFactory = _ => 2, HelpName = "n" }.Within(1, 64);
        var output = new Option<string>("--output", "-o") { Description = "Folder of results, state and logs.", DefaultValueFactory = _ => "demo", HelpName = "folder" };
        var json = SharedOptions.Json();
        foreach (var option in new Option[] { silos, output, json }) command.Options.Add(option);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var file = Find(context);
            var (_, _, spec) = SpecFile.Read(file, [], context);
            var whole = SpecFile.WithoutSearch(spec);
            // A minute: fewer steps, shorter samples, and fewer of them to judge and to show.
            var small = ExperimentSpecJson.Serialize(whole with
            {
                Training = whole.Training with { Steps = Steps },
                Sample = whole.Sample with { Steps = SamplerSteps },
                HeldOut = whole.HeldOut! with { Samples = Judged },
                Checkpoint = whole.Checkpoint with { SheetRows = Judged / 10 },
            });
            var sha = ExperimentSpecJson.Sha256(small);
            var folder = parsed.GetRequiredValue(output);
            var code = await new LocalRun(context)
            {
                Id = ExperimentDocument.IdOf("demo", sha),
                Submission = new ExperimentSubmission(small, sha, "demo"),
                Arguments = parsed.Tokens.Select(token => token.Value),
                ShortFolder = folder,
                Json = parsed.GetValue(json),
                Silos = parsed.GetValue(silos),
                Threads = spec.Resources.Threads,
            }.ToEndAsync(cancellationToken);
            if (code == ExitCodes.Ok && !parsed.GetValue(json))
            {
                context.Terminal.Note("");
                context.Terminal.Note("Open the page above in a browser. Then:");
                context.Terminal.Note($"  adpm audit demo --data {folder}         every shard of every step counted once");
                context.Terminal.Note($"  adpm run {context.Short(file)} --silos 2   the whole sweep that this was a part of");
            }

            return code;
        });
        return command;
    }

    /// <summary>The example, in this folder or above it, else above the program.</summary>
    private static string Find(ClientContext context)
    {
        foreach (var start in new[] { context.CurrentDirectory, context.ProgramFolder })
            for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
                if (File.Exists(Path.Combine(folder.FullName, Example))) return Path.Combine(folder.FullName, Example);
        throw new CommandFailure(ExitCodes.Failed, $"{Example} is neither here nor beside the program; the demo needs it and the models beside it.", "Start it in a clone of the repository.");
    }
}
