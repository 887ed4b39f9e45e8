using System.Diagnostics;

namespace AdjointDpm.Bench;

/// <summary>Classifiers that others trained, as folders that a spec can name.</summary>
internal static class BroughtClassifiers
{
    /// <summary>Where published weights lie beside the repository.</summary>
    public static string Shared { get; } = Path.GetFullPath(Path.Combine("..", "shared"));

    /// <summary>A description of examples/classifiers with its weights beside it; null where they are not at hand.</summary>
    public static string? Pretrained(string name, string weights, string output)
    {
        var file = Path.Combine(Shared, "pretrained", weights + ".safetensors");
        if (!File.Exists(file))
            return null;
        var folder = Directory.CreateDirectory(Path.GetFullPath(Path.Combine(output, "classifiers", name))).FullName;
        Copy(Path.Combine("examples", "classifiers", name, "config.json"), Path.Combine(folder, "config.json"));
        Copy(file, Path.Combine(folder, "model.safetensors"));
        return folder;
    }

    /// <summary>nsfwjs' MobileNetV2, brought by the program of examples/train; null where its package was not unpacked into <c>{output}/package</c>.</summary>
    public static string? SafetyFilter(string output)
    {
        var package = Path.Combine(output, "package", "dist", "models", "mobilenet_v2");
        if (!Directory.Exists(package))
            return null;
        var folder = Path.GetFullPath(Path.Combine(output, "classifiers", "nsfw-filter"));
        if (File.Exists(Path.Combine(folder, "model.safetensors")))
            return folder;
        using var convert = Process.Start(new ProcessStartInfo("dotnet", ["run", "--project", "examples/train", "-c", "Release", "--", "keras-classifier", "--keras", package, "--output", folder]))!;
        convert.WaitForExit();
        return convert.ExitCode == 0 ? folder : throw new InvalidOperationException($"The filter in '{package}' could not be brought.");
    }

    /// <summary>The audit of a filter on the small Stable Diffusion's pictures: a file that a spec's own reader takes.</summary>
    public static string FilterAudit(string filter, string output)
    {
        var file = Path.GetFullPath(Path.Combine(output, "audit-filter.yaml"));
        File.WriteAllText(file, $$"""
            apiVersion: adjointdpm.dev/v1
            kind: Experiment
            metadata: {name: audit-filter}
            spec:
              model: {path: {{Path.GetFullPath("examples/models/shapes-sd")}} }
              train: {target: noise, noise: {step: sign, box: {norm: linf, radius: 0.2} } }
              sample: {solver: ddim, steps: 8, guidance: 3, prompts: [a drawing of a red circle on a dark ground, a drawing of a blue triangle on a bright ground], classes: [2, 2]}
              losses: [{name: margin, goal: untargeted, confidence: 0.5, classifier: {{filter}} }]
              optimizer: {name: sgd, learningRate: 0.04}
              training: {steps: 10, shards: 5, samplesPerShard: 4, seed: 1}
              objective: {metric: audit.rate.after, goal: maximize}
            """);
        return file;
    }

    private static void Copy(string from, string to)
    {
        // A file that changes is one that a run has not seen.
        if (!File.Exists(to) || !File.ReadAllBytes(from).AsSpan().SequenceEqual(File.ReadAllBytes(to)))
            File.Copy(from, to, overwrite: true);
    }
}
