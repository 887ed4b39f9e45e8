namespace AdjointDpm.Grains.Specs;

/// <summary>Which keys each loss needs, which it may have, and what losses need of the rest of the spec.</summary>
internal static class LossRules
{
    private static readonly Dictionary<LossName, (string[] Needs, string[] May)> Keys = new()
    {
        [LossName.GramStyle] = (["classifier", "reference"], ["layers", "cutouts", "resize"]),
        [LossName.CrossEntropy] = (["classifier"], ["label", "cutouts", "resize"]),
        [LossName.PixelDistance] = ([], ["reference"]),
        [LossName.LogProbability] = (["classifier"], ["label", "goal", "cutouts", "resize"]),
        [LossName.Margin] = (["classifier"], ["label", "goal", "confidence", "cutouts", "resize"]),
        [LossName.Content] = (["classifier"], ["reference", "layers", "resize"]),
        [LossName.Perceptual] = (["classifier"], ["reference", "layers", "resize"]),
        [LossName.GaussianDivergence] = (["deviation"], []),
        [LossName.TotalVariation] = ([], ["squared"]),
        [LossName.NoiseNorm] = ([], ["squared"]),
        [LossName.ClipSimilarity] = (["clip"], ["text", "clipText", "reference", "cutouts"]),
        [LossName.ClipGram] = (["clip", "reference"], ["layer", "distance"]),
        [LossName.Aesthetic] = (["clip", "file"], ["target", "cutouts"]),
        [LossName.TorchScript] = (["file"], ["range", "maximize", "resize"]),
        [LossName.Onnx] = (["file"], ["column", "range", "maximize", "resize"]),
        [LossName.Sidecar] = (["addresses"], ["range", "maximize", "resize", "secretRef"]),
        [LossName.Custom] = (["loss"], ["options", "cutouts", "resize"]),
    };

    private static readonly Dictionary<string, (string Words, string Expected)> What = new()
    {
        ["classifier"] = ("the folder of the classifier it looks through", "the path of a folder"),
        ["reference"] = ("the image whose style is wanted", "the path of a file"),
        ["deviation"] = ("the standard deviation of both Gaussians, in units of the samples", "a number above 0"),
        ["clip"] = ("the folder of CLIP's vision tower", "the path of a folder"),
        ["loss"] = ("the name that the silos' host registered it under", "text"),
        ["addresses"] = ("where the reward listens, such as [http://127.0.0.1:8900]", "a list of addresses"),
    };

    public static IEnumerable<SpecFinding> Check(ExperimentSpec spec) => [.. Losses(spec, spec.Losses, "losses"), .. Losses(spec, spec.HeldOut?.Losses ?? [], "heldOut.losses")];

    private static IEnumerable<SpecFinding> Losses(ExperimentSpec spec, IReadOnlyList<LossSpec> losses, string list) => losses.SelectMany((loss, index) => Loss(spec, loss, SpecPath.Item(list, index)));

    private static IEnumerable<SpecFinding> Loss(ExperimentSpec spec, LossSpec loss, string path)
    {
        var name = ExperimentSpecJson.NameOf(loss.Name);
        var (needs, may) = Keys[loss.Name];
        foreach (var (key, value) in Values(loss))
        {
            if (value is null && needs.Contains(key))
            {
                var (words, expected) = key == "file" ? (FileOf(loss.Name), "the path of a file") : What[key];
                yield return new($"{path}", $"{path} is {name}, which needs '{key}': {words}.") { Found = "nothing", Expected = expected };
            }
            else if (value is not null && !needs.Contains(key) && !may.Contains(key))
            {
                yield return new($"{path}.{key}", $"{path}.{key} is not used by {name}. Remove it.") { AtKey = true };
            }
        }

        foreach (var finding in Together(spec, loss, path))
            yield return finding;
    }

    private static IEnumerable<SpecFinding> Together(ExperimentSpec spec, LossSpec loss, string path)
    {
        if (loss is { Name: LossName.ClipSimilarity, Reference: not null } && (loss.Text ?? loss.ClipText) is not null)
            yield return new($"{path}.reference", $"{path} asks CLIP for a picture and for a text. Keep one of them, or write two losses.") { AtKey = true };
        if (loss is { Name: LossName.ClipSimilarity, Reference: null, ClipText: null })
            yield return new(path, $"{path} is clip-similarity, which needs 'clipText', the folder of CLIP's text tower, or 'reference', a picture.") { Found = "nothing", Expected = "the path of a folder" };
        if (loss is { Name: LossName.ClipSimilarity, Reference: null, Text: null, ClipText: not null } && spec.Sample.Prompts is null)
            yield return new(path, $"{path} is clip-similarity of a model without prompts, which needs 'text': what CLIP should see.") { Found = "nothing", Expected = "text" };
        if (loss.Name == LossName.NoiseNorm && spec.Train.Target != TrainTarget.Noise)
            yield return new($"{path}.name", $"{path} is noise-norm, a loss of x_T, but train.target is {ExperimentSpecJson.NameOf(spec.Train.Target)}, which leaves x_T as it was drawn. Set train.target to noise, or remove the loss.") { Found = "noise-norm" };
        if (loss.SecretRef is { } reference && SecretRules.VariableOf(reference) is null)
            yield return new($"{path}.secretRef", $"{path}.secretRef must name a variable of the silos' environment as env:{SecretRules.Prefix}NAME, and never be the secret itself.") { Expected = $"env:{SecretRules.Prefix}NAME" };
        foreach (var address in loss.Addresses ?? [])
            if (!Uri.TryCreate(address, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
                yield return new($"{path}.addresses", $"{path}.addresses holds {ScalarReading.Quote(address)}, which is no address. Write one such as http://127.0.0.1:8900.") { Found = address };
    }

    private static string FileOf(LossName name) => name switch
    {
        LossName.TorchScript => "the reward, saved by torch.jit.script(module).save(…)",
        LossName.Onnx => "the reward, exported with a batch axis that may vary",
        _ => "the head on CLIP, a safetensors file",
    };

    private static (string Key, object? Value)[] Values(LossSpec loss) =>
    [
        ("classifier", loss.Classifier), ("layers", loss.Layers), ("reference", loss.Reference), ("label", loss.Label), ("goal", loss.Goal), ("confidence", loss.Confidence), ("deviation", loss.Deviation),
        ("squared", loss.Squared), ("file", loss.File), ("column", loss.Column), ("range", loss.Range), ("maximize", loss.Maximize), ("clip", loss.Clip), ("text", loss.Text), ("clipText", loss.ClipText),
        ("layer", loss.Layer), ("distance", loss.Distance), ("cutouts", loss.Cutouts), ("target", loss.Target), ("addresses", loss.Addresses), ("secretRef", loss.SecretRef), ("resize", loss.Resize), ("loss", loss.Loss), ("options", loss.Options),
    ];
}
