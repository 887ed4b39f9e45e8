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
        var command = new Command("plan", "Check an experiment and predict, before anything is trained, the main memory of a shard's gradient by method, part by part, how many trials and evaluations there will be, and how long they take; or the memory alone for a model of which only the configuration is known.");
        var file = new Argument<string?>("FILE") { Description = "The experiment, a YAML file: measured on its own model. Leave it out with --model.", Arity = ArgumentArity.ZeroOrOne };
        var model = new Option<string?>("--model") { Description = "Plan for sd1, sd2, sdxl, a diffusers folder or a single file from its configuration alone: no weights are needed.", HelpName = "name" };
        var size = new Option<string?>("--size") { Description = "Pictures in pixels, with --model: 512, or 768x512 as width by height. Default: what the model was trained on.", HelpName = "pixels" };
        var steps = new Option<int>("--steps") { Description = "Steps of the sampler, with --model.", HelpName = "n", DefaultValueFactory = _ => 20 }.Within(1, 1000);
        var batch = new Option<int>("--batch") { Description = "Samples differentiated together, with --model.", HelpName = "n", DefaultValueFactory = _ => 1 }.Within(1, 4096);
        var dtype = new Option<string?>("--dtype") { Description = "float32, float16 or bfloat16, with --model. Default: float32.", HelpName = "dtype" };
        var train = new Option<string[]>("--train") { Description = "Pattern for names of trained weights, such as '*attn*to_*', with --model. Repeatable. Default: none, the gradient of the noise.", HelpName = "pattern", Arity = ArgumentArity.OneOrMore };
        var rank = new Option<int?>("--rank") { Description = "Rank of adapters on them. Default: the weights themselves.", HelpName = "n" }.Within(1, 1024);
        var plain = new Option<bool>("--no-guidance") { Description = "Without classifier-free guidance, with --model." };
        var estimate = new Option<bool?>("--estimate") { Description = "Of an experiment on a text model: from configurations alone, without loading its weights. Default: for networks of more than 100 million weights.", HelpName = "true|false" };
        var budget = new Option<string?>("--budget") { Description = "Memory for weights and gradient together, such as 8GB: the exact method with the fewest evaluations that fits is chosen, recomputed blocks and the decoder's slices and tiles among the means.", HelpName = "size" };
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        foreach (var option in new Option[] { model, size, steps, batch, dtype, train, rank, plain, estimate, budget, set, json }) command.Options.Add(option);
        budget.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && ByteSize.Read(result.Tokens[0].Value) is null) result.AddError($"--budget: '{result.Tokens[0].Value}' is no size. Write it like 8GB or 512MB.");
        });
        size.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && Pixels(result.Tokens[0].Value) is null) result.AddError($"--size: '{result.Tokens[0].Value}' is no size. Write it like 512 or 768x512.");
        });
        command.Validators.Add(result =>
        {
            if (result.GetResult(file) is { Tokens.Count: > 0 } == result.GetResult(model) is not null) result.AddError("Name an experiment, or a model with --model.");
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var most = parsed.GetValue(budget) is { } room ? ByteSize.Read(room) : null;
            var answer = await ToolRun.AskAsync(context, parsed.GetValue(model) is { } name ? Estimate(name) : Measure(parsed.GetValue(file)!), cancellationToken);
            var memory = answer.Memory ?? throw new CommandFailure(ExitCodes.Failed, "The silo's program told no memory.", "Use the silo that came with this adpm.");
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(ClientJson.Text(new MemoryDocument(memory)));
                return ExitCodes.Ok;
            }

            context.Terminal.Line($"Weights {Words.Size(memory.WeightBytes)}; {memory.TrainedNumbers.ToString("N0", CultureInfo.InvariantCulture)} trained numbers, {Words.Size(memory.OptimizerBytes)} with the optimiser's state, on the coordinator.");
            context.Terminal.Line($"A shard of {Words.Count(memory.Samples, "sample")}, {Words.Count(memory.Steps, "step")}; above the weights{(memory.IsEstimated ? ", from the configuration alone" : "")}:");
            context.Terminal.Line();
            var column = Math.Max(18, memory.Methods.Max(m => m.Method.Length));
            context.Terminal.Line($"  {"method".PadRight(column)} {"peak",9} {"states",9} {"network",9} {"loss",9} {"gradients",9} {"evaluations",11}");
            foreach (var m in memory.Methods)
            {
                var mark = (m.IsConfigured, m.IsChosen) switch { (true, true) => "  of the spec, fits best", (true, false) => "  of the spec", (false, true) => "  fits best", _ => "" };
                context.Terminal.Line(Markup.Escape($"  {m.Method.PadRight(column)} {Words.Size(m.PeakBytes),9} {Words.Size(m.StateBytes),9} {Words.Size(m.NetworkBytes),9} {Words.Size(m.LossBytes),9} {Words.Size(m.GradientBytes),9} {m.Evaluations.ToString(CultureInfo.InvariantCulture),11}{mark}"));
            }

            if (memory.Cost is { } cost) Show(context.Terminal, cost);
            if (memory.Methods.FirstOrDefault(m => m.IsChosen)?.Settings is { } settings)
            {
                context.Terminal.Line();
                foreach (var line in settings.Split('\n'))
                    context.Terminal.Line(Markup.Escape(line));
            }

            return ExitCodes.Ok;

            PlanRequest Measure(string path)
            {
                var (_, _, spec) = SpecFile.Read(path, parsed.GetValue(set) ?? [], context);
                return new(ExperimentSpecJson.Serialize(SpecFile.WithoutSearch(spec)), most ?? (spec.Gradient.Method == GradientName.Auto ? ByteSize.Read(spec.Resources.Memory!) : null)) { FromConfiguration = parsed.GetValue(estimate), SearchJson = ExperimentSpecJson.Serialize(spec) };
            }

            EstimateRequest Estimate(string name)
            {
                var pixels = parsed.GetValue(size) is { } text ? Pixels(text) : null;
                return new(name is "sd1" or "sd15" or "sd1.5" or "sd2" or "sdxl" ? name : ModelPath.Of(context, name))
                {
                    Width = pixels?.Width,
                    Height = pixels?.Height,
                    Steps = parsed.GetValue(steps),
                    Batch = parsed.GetValue(batch),
                    Dtype = parsed.GetValue(dtype),
                    Trained = parsed.GetValue(train) ?? [],
                    Rank = parsed.GetValue(rank),
                    Guided = !parsed.GetValue(plain),
                    Budget = most,
                };
            }
        });
        return command;
    }

    private static void Show(Terminal terminal, RunCost cost)
    {
        string Whole(long number) => number.ToString("N0", CultureInfo.InvariantCulture);
        terminal.Line();
        terminal.Line($"{Words.Count(cost.Trials, "trial")} of {Words.Count(cost.Steps, "step")}, {Words.Count(cost.Shards, "shard")} each: {Whole(cost.ForwardNfe)} evaluations forward, {Whole(cost.BackwardNfe)} backward, {Whole(cost.Vjps)} vector–Jacobian products; {Whole(cost.EvaluationNfe)} evaluations for held-out samples.");
        terminal.Line(FormattableString.Invariant($"About {Words.Span(TimeSpan.FromSeconds(cost.DeviceSeconds))} of one such device, {cost.DeviceSeconds / 3600:0.##} device-hours: {cost.ShardSeconds:0.00} s a shard, measured here. Loading, proofs and saving come on top; what early stopping ends is saved."));
    }

    private static (int Width, int Height)? Pixels(string text)
    {
        var parts = text.Split('x');
        return parts.Length is 1 or 2 && parts.All(p => int.TryParse(p, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n is > 0 and <= 16_384)
            ? (int.Parse(parts[0], CultureInfo.InvariantCulture), int.Parse(parts[^1], CultureInfo.InvariantCulture)) : null;
    }
}
