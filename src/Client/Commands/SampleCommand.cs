using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class SampleCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("sample", "Draw pictures from texts with a Stable Diffusion folder or single file, its LoRA files and embeddings. The picture's file says how it was made.");
        var model = new Argument<string>("MODEL") { Description = "A diffusers folder or single file of Stable Diffusion 1, 2 or XL, or its name in the Hugging Face cache (org/name or org/name@revision)." };
        var prompt = new Option<string[]>("--prompt", "-p") { Description = "What to draw. Repeatable: one picture for each.", HelpName = "text", Arity = ArgumentArity.OneOrMore };
        var prompts = new Option<string?>("--prompts") { Description = "A file of prompts: txt (one on a line, with sd-scripts' --n --w --h --d --l --s --ss), csv, tsv, jsonl, json, yaml or parquet.", HelpName = "file" };
        var embeds = new Option<string?>("--prompt-embeds") { Description = "A file of prompts' embeddings (prompt_embeds, for XL pooled_prompt_embeds too), such as one that was trained: one picture for each.", HelpName = "file" };
        var negative = new Option<string?>("--negative", "-n") { Description = "What to stay away from. Default: what the model takes for no text.", HelpName = "text" };
        var output = new Option<string>("--output", "-o") { Description = "The picture; several are numbered.", HelpName = "file", DefaultValueFactory = _ => "sample.png" };
        var steps = new Option<int>("--steps") { Description = "Steps of the sampler.", HelpName = "n", DefaultValueFactory = _ => 20 }.Within(1, 1000);
        var guidance = new Option<double>("--guidance") { Description = "Weight of classifier-free guidance; 1 is none.", HelpName = "w", DefaultValueFactory = _ => 7.5 };
        var seed = new Option<long>("--seed") { Description = "Seed of the noise.", HelpName = "n", DefaultValueFactory = _ => 1 }.Within(0);
        var height = new Option<int?>("--height") { Description = "Pixels. Default: what the model was trained on.", HelpName = "n" };
        var width = new Option<int?>("--width") { Description = "Pixels. Default: what the model was trained on.", HelpName = "n" };
        var sampler = new Option<string?>("--sampler") { Description = "Name of a sampler, such as ddim, heun or dpm++2m. Default: the folder's.", HelpName = "name" };
        var lora = new Option<string[]>("--lora") { Description = "A LoRA file of either dialect, with its strength behind a colon. Repeatable.", HelpName = "file[:strength]", Arity = ArgumentArity.OneOrMore };
        var word = new Option<string[]>("--embedding") { Description = "File of a learnt word. Repeatable.", HelpName = "file", Arity = ArgumentArity.OneOrMore };
        var dtype = new Option<string?>("--dtype") { Description = "Networks in float32, float16 or bfloat16. Default: float32.", HelpName = "dtype" };
        var prediction = new Option<string?>("--prediction") { Description = "What the network predicts, epsilon or v_prediction, for a file that does not say.", HelpName = "name" };
        prediction.AcceptOnlyFromAmong("epsilon", "v_prediction");
        var tiles = new Option<int?>("--tiles") { Description = "Decode in overlapping tiles of so many pixels a side: less memory, not quite the same picture.", HelpName = "pixels" }.Within(32, 16_384);
        var fused = new Option<bool>("--fused-attention") { Description = "Attention by libtorch's fused kernel: less memory, rounded otherwise." };
        var device = new Option<string>("--device") { Description = "cpu:0 or cuda:0.", HelpName = "name", DefaultValueFactory = _ => "cpu:0" };
        var json = SharedOptions.Json();
        command.Arguments.Add(model);
        foreach (var option in new Option[] { prompt, prompts, embeds, negative, output, steps, guidance, seed, height, width, sampler, lora, word, dtype, prediction, tiles, fused, device, json }) command.Options.Add(option);
        command.Validators.Add(result =>
        {
            if (result.GetResult(prompt) is null && result.GetResult(prompts) is null && result.GetResult(embeds) is null) result.AddError("Nothing to draw: give --prompt, a file of them with --prompts, or of their embeddings with --prompt-embeds.");
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            string At(string path) => Path.GetFullPath(path, context.CurrentDirectory);
            var answer = await ToolRun.AskAsync(
                context,
                new DrawRequest(ModelPath.Of(context, parsed.GetRequiredValue(model)), parsed.GetValue(prompt) ?? [], At(parsed.GetRequiredValue(output)))
                {
                    Negative = parsed.GetValue(negative),
                    Steps = parsed.GetValue(steps),
                    Guidance = parsed.GetValue(guidance),
                    Seed = parsed.GetValue(seed),
                    Height = parsed.GetValue(height),
                    Width = parsed.GetValue(width),
                    Sampler = parsed.GetValue(sampler),
                    Loras = [.. (parsed.GetValue(lora) ?? []).Select(At)],
                    Words = [.. (parsed.GetValue(word) ?? []).Select(At)],
                    PromptsFile = parsed.GetValue(prompts) is { } list ? At(list) : null,
                    PromptEmbeds = parsed.GetValue(embeds) is { } states ? At(states) : null,
                    Dtype = parsed.GetValue(dtype),
                    Prediction = parsed.GetValue(prediction),
                    Tiles = parsed.GetValue(tiles),
                    Fused = parsed.GetValue(fused),
                    Device = parsed.GetRequiredValue(device),
                },
                cancellationToken);
            foreach (var warning in answer.Warnings ?? [])
                context.Terminal.Note(Markup.Escape(warning));
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new FilesDocument(answer.Files ?? [], answer.Message)));
            foreach (var file in parsed.GetValue(json) ? [] : answer.Files ?? [])
                context.Terminal.Line(Markup.Escape(context.Short(file)));
            return ExitCodes.Ok;
        });
        return command;
    }
}
