using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Commands;

internal static class SchemaCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("schema", "Print the JSON Schema of experiment files. Editors complete and check by it: '# yaml-language-server: $schema=FILE' as a file's first line.");
        command.SetAction(_ =>
        {
            context.Terminal.WriteRaw(ExperimentSchema.Json());
            return ExitCodes.Ok;
        });
        return command;
    }
}
