using System.Globalization;

namespace AdjointDpm.Bench;

/// <summary>A painting's texture in the Gram matrices of Tiny Darknet (ImageNet), put onto the decoded pictures of a small Stable Diffusion: where the network lies beside the repository.</summary>
internal static class PaintingStyle
{
    public static void Write(string output, string pictures)
    {
        if (BroughtClassifiers.Pretrained("tiny-darknet", "tiny_darknet_imagenet", output) is not { } network)
        {
            Console.WriteLine("Tiny Darknet is not beside the repository, so nothing was run.");
            return;
        }

        var painting = Path.Combine(BroughtClassifiers.Shared, "pretrained", "style_starry_night.jpg");
        Console.WriteLine("| model | style loss before → after | content loss against the untrained model, before → after | distance to it in pixels | diversity before → after |\n|---|---|---|---|---|");
        Row("shapes-sd", Path.GetFullPath("examples/models/shapes-sd"), steps: 30, keep: true);
        if (Path.Combine(BroughtClassifiers.Shared, "fixtures", "tiny-sd") is var tiny && Directory.Exists(tiny))
            Row("tiny-sd (random weights)", tiny, steps: 10, keep: false);

        void Row(string name, string model, int steps, bool keep)
        {
            var trial = ClientRun.Of(Spec(model, network, painting, steps, output), output).Trial;
            string Pair(string metric, string format) => $"{Cells.Number(trial[metric + ".before"], format)} → {Cells.Number(trial[metric + ".after"], format)}";
            Console.WriteLine($"| {name} | {Pair("heldOut.gramStyle", "f4")} | {Pair("heldOut.content", "f4")} | {Cells.Number(trial["heldOut.distance.after"], "f3")} | {Pair("heldOut.diversity", "f3")} |");
            if (keep)
                File.Copy(trial.File("before-after.png"), Path.Combine(pictures, "painting.png"), overwrite: true);
        }
    }

    private static string Spec(string model, string network, string painting, int steps, string output)
    {
        var file = Path.GetFullPath(Path.Combine(output, $"painting-{Path.GetFileName(model)}.yaml"));
        File.WriteAllText(file, string.Create(CultureInfo.InvariantCulture, $$"""
            apiVersion: adjointdpm.dev/v1
            kind: Experiment
            metadata: {name: painting}
            spec:
              model: {path: {{model}} }
              train: {target: lora, include: ["*attn*to_*", "*ff.net*", "*resnets*conv*"], rank: 8, alpha: 8}
              sample: {solver: ddim, steps: 8, guidance: 3, prompts: [a drawing of a red circle on a dark ground, a drawing of a blue square on a bright ground, a drawing of a yellow triangle on a dark ground, a drawing of a green circle on a bright ground]}
              losses:
                - {name: gram-style, classifier: {{network}}, layers: [leaky_1, leaky_2, leaky_4, leaky_8], reference: {{painting}}, resize: 128}
                - {name: content, weight: 0.02, classifier: {{network}}, layers: [leaky_8], resize: 128}
              heldOut: {samples: 16, every: 5, distance: true, diversity: true}
              optimizer: {name: adamw, learningRate: 3.0e-3, maxNorm: 1.0}
              training: {steps: {{steps}}, shards: 2, samplesPerShard: 4, seed: 1}
              objective: {metric: heldOut.loss.after, goal: minimize}
            """));
        return file;
    }
}
