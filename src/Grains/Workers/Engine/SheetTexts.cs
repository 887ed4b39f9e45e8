using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Says in a trial's pictures what they are of: the text <c>adjointdpm</c> of each PNG file, which <c>adpm inspect</c> shows.</summary>
internal static class SheetTexts
{
    private const string Key = "adjointdpm";

    /// <summary>Adds the text to every picture of a folder. It holds nothing that another run of the same trial would have otherwise.</summary>
    /// <param name="folder">Where the pictures lie.</param>
    /// <param name="trial">The trial as coordinators name it: experiment, slash, number.</param>
    /// <param name="specSha256">Hash of its spec.</param>
    /// <param name="metricsFile">A line for each step of training.</param>
    /// <param name="before">Parameters before training.</param>
    /// <param name="after">Parameters now.</param>
    /// <param name="proof">The proof of its gradient; null when there is none.</param>
    public static void Add(string folder, string trial, string specSha256, string metricsFile, ParameterVersion before, ParameterVersion after, GradientProofReport? proof)
    {
        var pictures = Directory.GetFiles(folder, "*.png");
        if (pictures.Length == 0)
            return;
        var (slash, steps) = (trial.LastIndexOf('/'), File.ReadLines(metricsFile).Count());
        foreach (var path in pictures)
        {
            var untrained = Path.GetFileNameWithoutExtension(path) == "before";
            var text = JsonSerializer.Serialize(new
            {
                experiment = trial[..slash],
                trial = trial[(slash + 1)..],
                step = untrained ? 0 : steps,
                specSha256,
                parametersSha256 = (untrained ? before : after).Sha256,
                gradientProof = proof is null ? null : new { proof.Method, proof.Passed, proof.Summary().RelativeError },
            }, Json);
            File.WriteAllBytes(path, PngText.Add(File.ReadAllBytes(path), [new(Key, text)]));
        }
    }

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals };
}
