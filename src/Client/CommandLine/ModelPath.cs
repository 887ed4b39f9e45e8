using AdjointDpm.Grains.Models;

namespace AdjointDpm.Client.CommandLine;

/// <summary>Models and files as people name them on the command line.</summary>
internal static class ModelPath
{
    /// <summary>The path of a file or folder, absolute; for org/name[@revision] that is none, the model's folder in the Hugging Face cache.</summary>
    public static string Of(ClientContext context, string text)
    {
        var path = Path.GetFullPath(text, context.CurrentDirectory);
        if (File.Exists(path) || Directory.Exists(path) || !HuggingFaceCache.IsName(text))
            return path;
        return HuggingFaceCache.Open(context.Variable).TryFind(text, out var folder, out var reason) ? folder
            : throw new CommandFailure(ExitCodes.Failed, $"There is no file or folder '{path}'. {reason}", "See 'adpm models ls' for the models on this machine.");
    }
}
