using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Client.Diagnosis;

/// <summary>Asks the silo itself: <c>--doctor</c> makes it load libtorch, print one line of JSON and end.</summary>
internal static class SiloCheck
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public static async IAsyncEnumerable<DoctorCheck> RunAsync(ClientContext context, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        SiloCommand? command = null;
        DoctorCheck found;
        try
        {
            command = SiloCommand.Find(context.Variable, context.ProgramFolder);
            found = new DoctorCheck("silo", true, command.File);
        }
        catch (CommandFailure e)
        {
            found = new DoctorCheck("silo", false, e.Message, e.Advice);
        }

        yield return found;
        if (command is null) yield break;
        foreach (var check in await AskAsync(command, cancellationToken)) yield return check;
    }

    private static async Task<IReadOnlyList<DoctorCheck>> AskAsync(SiloCommand command, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(command.Program, [.. command.Arguments, "--doctor"]) 
        {
            RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true,
            // A silo that does not know --doctor would make its data folder where it stands.
            WorkingDirectory = Path.GetTempPath(),
        };
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(Patience);
        using var process = new Process { StartInfo = start };
        try
        {
            process.Start();
            process.StandardInput.Close();
            var error = process.StandardError.ReadToEndAsync(timeout.Token);
            while (await process.StandardOutput.ReadLineAsync(timeout.Token) is { } line)
            {
                if (SiloReady.TryParse(line, out _))
                {
                    process.Kill(entireProcessTree: true);
                    return [new DoctorCheck("libtorch", false, "This silo does not know --doctor: it is of another version.", "Use the silo that came with this adpm.")];
                }

                if (line.StartsWith('{') && Read(line) is { } answer) return answer.Artifacts is null && answer.ArtifactsError is null ? [Check(answer)] : [Check(answer), Artifacts(answer)];
            }

            await process.WaitForExitAsync(timeout.Token);
            return [new DoctorCheck("libtorch", false, $"The silo ended with exit code {process.ExitCode} and told nothing: {Last(await error)}", "Run it by hand: " + string.Join(' ', start.ArgumentList.Prepend(start.FileName)))];
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            process.Kill(entireProcessTree: true);
            return [new DoctorCheck("libtorch", false, $"The silo did not answer within {Patience.TotalSeconds:0} s.", "Is the disk very slow, or the machine very busy?")];
        }
        catch (Win32Exception e)
        {
            return [new DoctorCheck("libtorch", false, $"'{start.FileName}' cannot be started: {e.Message}", "Install the .NET 10 runtime, or put it on the PATH.")];
        }
    }

    private static DoctorCheck Check(SiloAnswer answer)
    {
        if (answer.Error is { Length: > 0 } error) return new DoctorCheck("libtorch", false, error, answer.Note);
        var devices = answer.Devices is { Count: > 0 } list ? string.Join(", ", list) : "no device";
        return new DoctorCheck(
            "libtorch", answer.Devices is { Count: > 0 },
            $"{answer.LibtorchFolder}; {(answer.Shim is { Length: > 0 } shim ? $"shim {shim}; " : "")}{answer.Threads} {(answer.Threads == 1 ? "thread" : "threads")}; {devices}{(answer.Note is { Length: > 0 } note ? $" ({note})" : "")}");
    }

    /// <summary>Where a silo that is started from here would write its results.</summary>
    private static DoctorCheck Artifacts(SiloAnswer answer) => answer.ArtifactsError is { Length: > 0 } error
        ? new DoctorCheck("artefacts", false, error, "The settings are those of the environment: Artifacts__Bucket and others. Without them results go to the output folder.")
        : new DoctorCheck("artefacts", true, $"{answer.Artifacts} can be written");

    private static SiloAnswer? Read(string line)
    {
        try
        {
            return JsonSerializer.Deserialize(line, SiloAnswerContext.Default.SiloAnswer);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static string Last(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault() ?? "no output";
}

/// <summary>What a silo prints for <c>--doctor</c>, as one line of JSON on standard output.</summary>
/// <param name="LibtorchFolder">Folder that libtorch was loaded from.</param>
/// <param name="Shim">File of the native shim that is in use, when it is not the package's own.</param>
/// <param name="Note">What people should know, or do about the error.</param>
/// <param name="Error">Why libtorch cannot be loaded; null when it was.</param>
/// <param name="Threads">Intra-op threads.</param>
/// <param name="Devices">Such as cpu:0.</param>
/// <param name="Artifacts">Bucket that results go to, and that was written to and read; null when none is named.</param>
/// <param name="ArtifactsError">Why results could not go to the bucket that is named.</param>
internal sealed record SiloAnswer(string? LibtorchFolder, string? Shim, string? Note, string? Error, int Threads, IReadOnlyList<string>? Devices, string? Artifacts = null, string? ArtifactsError = null);

[System.Text.Json.Serialization.JsonSerializable(typeof(SiloAnswer))]
[System.Text.Json.Serialization.JsonSourceGenerationOptions(PropertyNamingPolicy = System.Text.Json.Serialization.JsonKnownNamingPolicy.CamelCase)]
internal sealed partial class SiloAnswerContext : System.Text.Json.Serialization.JsonSerializerContext;
