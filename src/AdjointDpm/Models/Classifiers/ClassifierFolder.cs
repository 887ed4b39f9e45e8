using AdjointDpm.Formats;

namespace AdjointDpm.Models.Classifiers;

/// <summary>A classifier on disk: <c>config.json</c>, whose <c>_class_name</c> picks the architecture, beside <c>model.safetensors</c>.</summary>
public static class ClassifierFolder
{
    private const string ConfigFile = "config.json";
    private const string WeightsFile = "model.safetensors";

    /// <summary>Builds the classifier, loads its weights in float32 on the CPU, and puts it in evaluation mode with frozen weights.</summary>
    /// <exception cref="ModelConfigException">The folder or its configuration is missing, or names an unknown class.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit.</exception>
    public static ImageClassifier Load(string folder)
    {
        if (!Directory.Exists(folder))
            throw new ModelConfigException($"{folder}: there is no such folder. A classifier is a folder with {ConfigFile} and {WeightsFile}.");
        var path = Path.Combine(folder, ConfigFile);
        ImageClassifier classifier = ModelConfig.ClassName(path) switch
        {
            nameof(ConvClassifier) => new ConvClassifier(ModelConfig.Read<ConvClassifierConfig>(path)),
            nameof(ResidualClassifier) => new ResidualClassifier(ModelConfig.Read<ResidualClassifierConfig>(path)),
            nameof(SequentialClassifier) => new SequentialClassifier(ModelConfig.Read<SequentialClassifierConfig>(path)),
            var other => throw new ModelConfigException($"{path}: _class_name is '{other}'. Known classifiers: {nameof(ConvClassifier)}, {nameof(ResidualClassifier)}, {nameof(SequentialClassifier)}."),
        };
        ModuleWeights.Load(classifier, Path.Combine(folder, WeightsFile));
        classifier.eval();
        foreach (var parameter in classifier.parameters())
            parameter.requires_grad_(false);
        return classifier;
    }

    /// <summary>Writes the folder; it is made when missing.</summary>
    public static void Save(ImageClassifier classifier, string folder)
    {
        classifier.WriteConfig(Path.Combine(folder, ConfigFile));
        ModuleWeights.Save(classifier, Path.Combine(folder, WeightsFile));
    }
}
