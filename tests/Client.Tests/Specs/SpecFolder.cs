using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Tests.Specs;

/// <summary>A folder with what a spec may name, and a spec that holds.</summary>
public sealed class SpecFolder : IDisposable
{
    public const string Valid = """
        apiVersion: adjointdpm.dev/v1
        kind: Experiment
        metadata:
          name: stylize
          labels: {team: art}
        spec:
          model:
            path: unet
          losses:
          - name: gram-style
            classifier: judge
            reference: style.png
            layers: [conv1, conv2]
          - {name: pixel-distance, weight: 0.1}
          heldOut:
            classifier: other
          optimizer:
            name: adamw
            learningRate: 1e-4
          objective: {metric: heldOut.accuracy.after, goal: maximize}
          parameters:
            optimizer.learningRate: {values: [1e-4, 3e-4]}
            losses[1].weight: {values: [0.1, 1]}
          maxTrials: 4
        """;

    public SpecFolder()
    {
        Folder = Directory.CreateTempSubdirectory("adpm-spec-").FullName;
        foreach (var name in new[] { "unet", "judge", "other" }) Directory.CreateDirectory(System.IO.Path.Combine(Folder, name));
        System.IO.File.WriteAllBytes(System.IO.Path.Combine(Folder, "style.png"), []);
    }

    public string Folder { get; }

    public string File => System.IO.Path.Combine(Folder, "e.yaml");

    public ExperimentDocumentResult Parse(string yaml) => ExperimentDocument.Parse(yaml, File);

    /// <summary>Problems as text, with the folder taken out.</summary>
    public string Problems(string yaml) => string.Join('\n', Parse(yaml).Problems).Replace(Folder + "/", "", StringComparison.Ordinal).Replace(Folder, "FOLDER", StringComparison.Ordinal);

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
