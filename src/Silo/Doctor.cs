using System.ComponentModel.DataAnnotations;
using System.Text.Json;
using AdjointDpm.Native;
using AdjointDpm.Silo.S3;
using TorchSharp;

namespace AdjointDpm.Silo;

/// <summary>Answers <c>--doctor</c>: what this process can load and compute on, and whether it can write its results, in one line of JSON, without opening a port or a folder.</summary>
internal static class Doctor
{
    public const string Argument = "--doctor";

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);

    public static async Task<int> RunAsync(string[] args, TextWriter output)
    {
        var (artifacts, problem) = await ArtifactsAsync(args);
        DoctorAnswer answer;
        try
        {
            var native = NativeTorch.EnsureLoaded();
            string[] devices = ["cpu:0", .. Enumerable.Range(0, torch.cuda.is_available() ? torch.cuda.device_count() : 0).Select(i => $"cuda:{i}")];
            answer = new DoctorAnswer(native.Folder, native.Shim, native.Notes.Any() ? string.Join(" ", native.Notes) : null, null, torch.get_num_threads(), devices, artifacts, problem);
        }
        catch (NativeLoadException e)
        {
            answer = new DoctorAnswer(null, null, null, e.Message, 0, [], artifacts, problem);
        }
        await output.WriteLineAsync(JsonSerializer.Serialize(answer, Json));
        return answer.Error is null && problem is null ? 0 : 1;
    }

    /// <summary>The bucket that this silo's settings name; both null when they name none.</summary>
    private static async Task<(string? Address, string? Problem)> ArtifactsAsync(string[] args)
    {
        try
        {
            var options = WebApplication.CreateBuilder(new WebApplicationOptions { Args = [.. args.Where(arg => arg != Argument)], ContentRootPath = AppContext.BaseDirectory }).Configuration.Read<ArtifactsHostOptions>(ArtifactsHostOptions.Section);
            if (options.Bucket is null)
                return (null, null);
            using var bucket = await S3Bucket.OpenAsync(options, TimeProvider.System, CancellationToken.None);
            return (bucket.Address, null);
        }
        catch (ValidationException e)
        {
            return (null, e.Message);
        }
    }

    private sealed record DoctorAnswer(string? LibtorchFolder, string? Shim, string? Note, string? Error, int Threads, IReadOnlyList<string> Devices, string? Artifacts, string? ArtifactsError);
}
