using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class PlanCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("plan", "Check an experiment and predict the main memory of a shard's gradient by method, part by part, before anything is trained.");
        var file = SharedOptions.SpecFile();
        var budget = new Option<string?>("--budget") { Description = "Memory for weights and gradient together, such as 8GB: the exact method with the fewest evaluations that fits is chosen.", HelpName = "size" };
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        foreach (var option in new Option[] { budget, set, json }) command.Options.Add(option);
        budget.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && Bytes(result.Tokens[0].Value) is null) result.AddError($"--budget: '{result.Tokens[0].Value}' is no size. Write it like 8GB or 512MB.");
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (_, _, spec) = SpecFile.Read(parsed.GetRequiredValue(file), parsed.GetValue(set) ?? [], context);
            var answer = await ToolRun.AskAsync(context, new PlanRequest(ExperimentSpecJson.Serialize(SpecFile.WithoutSearch(spec)), parsed.GetValue(budget) is { } size ? Bytes(size) : null), cancellationToken);
            var memory = answer.Memory ?? throw new CommandFailure(ExitCodes.Failed, "The silo's program told no memory.", "Use the silo that came with this adpm.");
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(ClientJson.Text(new MemoryDocument(memory)));
                return ExitCodes.Ok;
            }

            context.Terminal.Line($"Weights {Words.Size(memory.WeightBytes)}; {memory.TrainedNumbers.ToString("N0", CultureInfo.InvariantCulture)} trained numbers, {Words.Size(memory.OptimizerBytes)} with the optimiser's state, on the coordinator.");
            context.Terminal.Line($"A shard of {Words.Count(memory.Samples, "sample")}, {Words.Count(memory.Steps, "step")}; above the weights:");
            context.Terminal.Line();
            context.Terminal.Line($"  {"method",-18} {"peak",9} {"states",9} {"network",9} {"loss",9} {"gradients",9} {"evaluations",11}");
            foreach (var m in memory.Methods)
            {
                var mark = (m.IsConfigured, m.IsChosen) switch { (true, true) => "  of the spec, fits best", (true, false) => "  of the spec", (false, true) => "  fits best", _ => "" };
                context.Terminal.Line(Markup.Escape($"  {m.Method,-18} {Words.Size(m.PeakBytes),9} {Words.Size(m.StateBytes),9} {Words.Size(m.NetworkBytes),9} {Words.Size(m.LossBytes),9} {Words.Size(m.GradientBytes),9} {m.Evaluations.ToString(CultureInfo.InvariantCulture),11}{mark}"));
            }

            return ExitCodes.Ok;
        });
        return command;
    }

    private static long? Bytes(string text)
    {
        var digits = text.TrimEnd('B', 'b').TrimEnd('i');
        var power = digits.Length == 0 ? -1 : char.ToUpperInvariant(digits[^1]) switch { 'K' => 1, 'M' => 2, 'G' => 3, 'T' => 4, _ => 0 };
        var number = power > 0 ? digits[..^1] : digits;
        return power >= 0 && double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) && value > 0 ? (long)(value * Math.Pow(text.Contains('i', StringComparison.Ordinal) ? 1024 : 1000, power)) : null;
    }
}
