using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Tools;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class InspectCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("inspect", "Say what a file holds: a checkpoint, a LoRA, an embedding, a diffusers folder, a picture and how it was made. Weights are not read.");
        var file = new Argument<string>("FILE") { Description = "A safetensors file, a diffusers folder, a model of the Hugging Face cache (org/name) or a PNG picture." };
        var tensors = new Option<bool>("--tensors") { Description = "List every tensor." };
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        command.Options.Add(tensors);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var path = ModelPath.Of(context, parsed.GetRequiredValue(file));
            var answer = await ToolRun.AskAsync(context, new InspectRequest(path), cancellationToken);
            if (parsed.GetValue(json))
            {
                context.Terminal.WriteRaw(ClientJson.Text(new InspectionDocument(path, answer)));
                return ExitCodes.Ok;
            }

            context.Terminal.Line($"[bold]{Markup.Escape(answer.Kind ?? "unknown")}[/]");
            foreach (var fact in answer.Facts ?? [])
                context.Terminal.Line($"  {Markup.Escape(fact.Name),-16} {Markup.Escape(fact.Value)}");
            if (answer.Metadata is { Count: > 0 } metadata)
            {
                context.Terminal.Line("metadata");
                foreach (var (key, value) in metadata.OrderBy(m => m.Key, StringComparer.Ordinal))
                    context.Terminal.Line($"  {Markup.Escape(Printable(key))}: {Markup.Escape(Printable(value))}");
            }

            foreach (var tensor in parsed.GetValue(tensors) ? answer.Tensors ?? [] : [])
                context.Terminal.Line(Markup.Escape($"{tensor.Dtype,-5} [{string.Join(", ", tensor.Shape)}] {Printable(tensor.Name)}"));
            return ExitCodes.Ok;
        });
        return command;
    }

    /// <summary>One line without control characters, cut where it is long: files from elsewhere must not steer a terminal.</summary>
    private static string Printable(string text)
    {
        const int Most = 300;
        var plain = string.Concat(text.Take(Most).Select(c => c == '\n' ? " ⏎ " : char.IsControl(c) ? " " : c.ToString()));
        return text.Length > Most ? $"{plain}… ({text.Length} characters)" : plain;
    }
}
