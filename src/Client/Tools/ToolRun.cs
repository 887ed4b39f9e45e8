using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Progress;
using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Client.Tools;

/// <summary>Has a tool run by the silo's program: whatever needs libtorch happens there.</summary>
internal static class ToolRun
{
    public static async Task<ToolAnswer> AskAsync(ClientContext context, ToolRequest request, CancellationToken cancellationToken)
    {
        var command = SiloCommand.Find(context.Variable, context.ProgramFolder);
        // Of what takes a second nobody wants to hear more than that it has begun, and that in a terminal only.
        request = request with { TellsProgress = request is not (InspectRequest or ModelsRequest or EstimateRequest) };
        using var process = new Process
        {
            StartInfo = new ProcessStartInfo(command.Program, [.. command.Arguments, ToolJson.Argument, ToolJson.Write(request)])
            {
                RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true,
                // A silo that does not know the argument would make its data folder where it stands.
                WorkingDirectory = Path.GetTempPath(),
            },
        };
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"'{command.Program}' cannot be started: {e.Message}", "Install the .NET 10 runtime, or put it on the PATH.", e);
        }

        process.StandardInput.Close();
        using var kill = cancellationToken.Register(() => process.Kill(entireProcessTree: true));
        var error = process.StandardError.ReadToEndAsync(cancellationToken);
        ToolAnswer? answer = null;
        await using (var bar = new WorkBar(context.Terminal, context.Time, request.TellsProgress ? "loading libtorch" : "reading"))
            while (answer is null && await process.StandardOutput.ReadLineAsync(cancellationToken) is { } line)
                if (Read(line) is { } read)
                    if (read.Progress is { } progress) bar.Report(progress.What, progress.Done, progress.Total);
                    else answer = read;
        if (answer is not null)
        {
            await process.WaitForExitAsync(cancellationToken);
            return answer.Error is null ? answer : throw new CommandFailure(ExitCodes.Failed, answer.Error);
        }

        if (!process.HasExited)
            process.Kill(entireProcessTree: true);
        var said = (await error).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault() ?? "no output";
        throw new CommandFailure(ExitCodes.Failed, $"The silo's program gave no answer: {said}", "See 'adpm doctor'.");
    }

    private static ToolAnswer? Read(string line)
    {
        try
        {
            return line.StartsWith('{') ? ToolJson.ReadAnswer(line) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
