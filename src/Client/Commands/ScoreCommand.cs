using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Tools;
using Spectre.Console;
using static System.FormattableString;

namespace AdjointDpm.Client.Commands;

internal static class ScoreCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("score", "Judge a folder of pictures by a classifier: how many it takes for what they should be, how diverse they are, how far from other pictures; each with n and a 95 % interval.");
        var folder = new Argument<string>("DIR") { Description = "Pictures of one size, or folders of them that are named after classes, such as 3." };
        var classifier = new Option<string>("--classifier") { Description = "Folder of the classifier: config.json and model.safetensors.", HelpName = "folder", Required = true };
        var reference = new Option<string?>("--reference") { Description = "Pictures to measure the distance to: Fréchet (FID) and kernel distance (KID) of the classifier's features.", HelpName = "folder" };
        var label = new Option<int?>("--label") { Description = "Class that all pictures are to be of.", HelpName = "n" }.Within(0);
        var layer = new Option<string?>("--layer") { Description = "Layer whose features are compared, averaged over the picture. Default: the last one.", HelpName = "name" };
        var json = SharedOptions.Json();
        command.Arguments.Add(folder);
        foreach (var option in new Option[] { classifier, reference, label, layer, json }) command.Options.Add(option);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            string Full(string path) => Path.GetFullPath(path, context.CurrentDirectory);
            var path = Full(parsed.GetRequiredValue(folder));
            var answer = await ToolRun.AskAsync(context, new ScoreRequest(path, Full(parsed.GetRequiredValue(classifier)))
            {
                Reference = parsed.GetValue(reference) is { } other ? Full(other) : null,
                Label = parsed.GetValue(label),
                Layer = parsed.GetValue(layer),
            }, cancellationToken);
            var score = answer.Score ?? throw new CommandFailure(ExitCodes.Failed, "The silo's program told nothing of the pictures.", "Use the silo that came with this adpm.");
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new ScoreDocument(path, score)));
            else Show(context.Terminal, score);
            return ExitCodes.Ok;
        });
        return command;
    }

    private static void Show(Terminal terminal, SampleScore score)
    {
        Line("pictures", score.Samples.ToString(CultureInfo.InvariantCulture));
        if (score.Share is { } share)
            Line("recognised", Invariant($"{score.Recognised} of {score.Labelled}, {share.Value:p1} ({share.Low:p1} to {share.High:p1}, Wilson)"));
        else
            Line("recognised", "not known: name the class by --label, or put the pictures into folders named after theirs");
        Line("taken for", string.Join(", ", score.Predicted.Select((count, c) => (count, c)).Where(pair => pair.count > 0).OrderByDescending(pair => pair.count).Take(12).Select(pair => Invariant($"{pair.c}: {pair.count}"))));
        if (score.Diversity is { } diversity)
            Line("diversity", Invariant($"{Words.Number(diversity)}, mean distance of two pictures of one class, over {score.DiverseClasses} class{(score.DiverseClasses == 1 ? "" : "es")}, layer {score.Layer}"));
        if (score is { Frechet: { } frechet, Kernel: { } kernel })
        {
            Line("Fréchet", Invariant($"{Words.Number(frechet.Value)} ({Words.Number(frechet.Low)} to {Words.Number(frechet.High)}), n = {score.Samples} and {score.ReferenceSamples}, {score.FeatureLength} features of layer {score.Layer}; biased upwards for few samples"));
            Line("kernel", Invariant($"{Words.Number(kernel.Value)} ({Words.Number(kernel.Low)} to {Words.Number(kernel.High)}), unbiased"));
        }

        void Line(string title, string text) => terminal.Line($"{title,-12}{Markup.Escape(text)}");
    }
}
