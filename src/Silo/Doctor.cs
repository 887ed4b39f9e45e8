using System.Text.Json;
using AdjointDpm.Native;
using TorchSharp;

namespace AdjointDpm.Silo;

/// <summary>Answers <c>--doctor</c>: what this process can load and compute on, in one line of JSON, without opening a port or a folder.</summary>
internal static class Doctor
{
    public const string Argument = "--doctor";

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);

    public static int Run(TextWriter output)
    {
        try
        {
            var native = NativeTorch.EnsureLoaded();
            string[] devices = ["cpu:0", .. Enumerable.Range(0, torch.cuda.is_available() ? torch.cuda.device_count() : 0).Select(i => $"cuda:{i}")];
            output.WriteLine(JsonSerializer.Serialize(new DoctorAnswer(native.Folder, native.Shim, native.Note, null, torch.get_num_threads(), devices), Json));
            return 0;
        }
        catch (NativeLoadException e)
        {
            output.WriteLine(JsonSerializer.Serialize(new DoctorAnswer(null, null, null, e.Message, 0, []), Json));
            return 1;
        }
    }

    private sealed record DoctorAnswer(string? LibtorchFolder, string? Shim, string? Note, string? Error, int Threads, IReadOnlyList<string> Devices);
}
