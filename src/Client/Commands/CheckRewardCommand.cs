using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using Spectre.Console;
using static System.FormattableString;

namespace AdjointDpm.Client.Commands;

internal static class CheckRewardCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("check-reward", "Test whether a loss is fit for gradients: finite values, gradient against finite differences, independence of the samples, repeatability. Ends with 4 when it is not.");
        var file = new Argument<string>("FILE") { Description = "An experiment, whose losses are tested on samples of its model; or a reward alone: a TorchScript file (.pt), an ONNX file (.onnx) or the address of a sidecar." };
        var samples = new Option<int>("--samples") { Description = "Samples to test at.", HelpName = "n", DefaultValueFactory = _ => 3 }.Within(2, 64);
        var size = new Option<string>("--size") { Description = "Pictures for a reward alone: channels x height x width.", HelpName = "CxHxW", DefaultValueFactory = _ => "3x64x64" };
        var column = new Option<int?>("--column") { Description = "Which column of an ONNX file's output [B, K] is the score.", HelpName = "k" }.Within(0);
        var symmetric = new Option<bool>("--symmetric") { Description = "A reward alone takes pictures in [-1, 1]. Otherwise [0, 1]." };
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        foreach (var option in new Option[] { samples, size, column, symmetric, set, json }) command.Options.Add(option);
        size.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && Shape(result.Tokens[0].Value) is null) result.AddError($"--size: '{result.Tokens[0].Value}' is no size of pictures. Write it like 3x64x64.");
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var answer = await ToolRun.AskAsync(context, Request(parsed.GetRequiredValue(file), parsed.GetValue(set) ?? []) with
            {
                Samples = parsed.GetValue(samples),
                Shape = Shape(parsed.GetRequiredValue(size))!,
                Column = parsed.GetValue(column),
                Symmetric = parsed.GetValue(symmetric),
            }, cancellationToken);
            var rewards = answer.Rewards ?? throw new CommandFailure(ExitCodes.Failed, "The silo's program told nothing of the losses.", "Use the silo that came with this adpm.");
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new RewardsDocument(rewards)));
            else foreach (var reward in rewards) Show(context.Terminal, reward);
            return rewards.All(reward => reward.Problems.Count == 0) ? ExitCodes.Ok : ExitCodes.NotProven;
        });
        return command;

        CheckRewardRequest Request(string given, IReadOnlyList<string> sets)
        {
            if (Uri.TryCreate(given, UriKind.Absolute, out var address) && address.Scheme is "http" or "https")
                return new CheckRewardRequest { Address = given };
            var path = Path.GetFullPath(given, context.CurrentDirectory);
            return Path.GetExtension(path) is ".yaml" or ".yml"
                ? new CheckRewardRequest { SpecJson = ExperimentSpecJson.Serialize(SpecFile.WithoutSearch(SpecFile.Read(path, sets, context).Spec)) }
                : new CheckRewardRequest { File = path };
        }
    }

    private static void Show(Terminal terminal, RewardFitness reward)
    {
        terminal.Line($"[bold]{Markup.Escape(reward.Name)}[/]  {(reward.Problems.Count == 0 ? "[green]fit[/]" : "[red]not fit[/]")}");
        if (reward.Slopes.Count > 0)
        {
            terminal.Line(Markup.Escape(Invariant($"  losses {reward.Lowest:g4} to {reward.Highest:g4}, mean {reward.Mean:g4}; norm of the gradient {reward.GradientNorm:g4}; {reward.Precision}")));
            terminal.Line(Markup.Escape(Invariant($"  gradient within {reward.Slopes.Max(slope => slope.RelativeError):0.0e-0} of finite differences along {reward.Slopes.Count} directions (allowed {reward.Tolerance:0.0e-0})")));
            terminal.Line(Markup.Escape(Invariant($"  other samples change a sample's loss by {reward.Coupling:0.0e-0} of its size; the same bits when asked again: {(reward.Deterministic ? "yes" : "no")}")));
        }

        foreach (var problem in reward.Problems) terminal.Line($"  [red]✗[/] {Markup.Escape(problem)}");
    }

    private static IReadOnlyList<int>? Shape(string text)
    {
        var parts = text.Split('x', 'X', '×');
        return parts.Length == 3 && parts.All(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n is > 0 and <= 4096) ? [.. parts.Select(part => int.Parse(part, CultureInfo.InvariantCulture))] : null;
    }
}
