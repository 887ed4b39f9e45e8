using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ConvertCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("convert", "Turn a diffusers folder into a single file or back, a LoRA into the other dialect, an embedding likewise. What was written is read back and compared.");
        var input = new Argument<string>("IN") { Description = "A safetensors file, a diffusers folder, or a model of the Hugging Face cache (org/name)." };
        var output = new Argument<string>("OUT") { Description = "A path ending in .safetensors for a file, any other for a folder." };
        var model = new Option<string?>("--model") { Description = "The model that the file is for, a diffusers folder or a single file: names of layers for a LoRA; tokenizers and configurations for a checkpoint that is not of a released model's size.", HelpName = "model" };
        var form = new Option<string?>("--as") { Description = "kohya or diffusers for a LoRA (default: the other one), webui or diffusers for an embedding (default: webui).", HelpName = "form" };
        var dtype = new Option<string?>("--dtype") { Description = "Weights of a model as float32, float16 or bfloat16. Default: float32.", HelpName = "dtype" };
        var prediction = new Option<string?>("--prediction") { Description = "What a model's network predicts, epsilon or v_prediction. Default: what the input says.", HelpName = "name" };
        prediction.AcceptOnlyFromAmong("epsilon", "v_prediction");
        var json = SharedOptions.Json();
        command.Arguments.Add(input);
        command.Arguments.Add(output);
        foreach (var option in new Option[] { model, form, dtype, prediction, json }) command.Options.Add(option);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            string At(string path) => Path.GetFullPath(path, context.CurrentDirectory);
            var (from, to) = (ModelPath.Of(context, parsed.GetRequiredValue(input)), At(parsed.GetRequiredValue(output)));
            var answer = await ToolRun.AskAsync(context, new ConvertRequest(from, to, parsed.GetValue(model) is { } folder ? ModelPath.Of(context, folder) : null, parsed.GetValue(form), parsed.GetValue(dtype)) { Prediction = parsed.GetValue(prediction) }, cancellationToken);
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new FilesDocument(answer.Files ?? [], answer.Message)));
            else context.Terminal.Line(Markup.Escape($"{context.Short(to)}: {answer.Message}"));
            return ExitCodes.Ok;
        });
        return command;
    }
}
