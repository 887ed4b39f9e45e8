using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Clip;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The networks and files that losses look through, on a device, each loaded once and anew when its files change.</summary>
/// <remarks>Loaded before work begins, outside any dispose scope, since they are kept. They compute in the samples' dtype, so that a float64 run is one throughout.</remarks>
internal sealed class LossNetworks(Device device) : IDisposable
{
    private readonly Dictionary<(string Kind, string Path, ScalarType Dtype), (string Stamp, IDisposable Loaded)> _loaded = [];

    /// <summary>Loads everything that the losses and the held-out judge of a spec name.</summary>
    public void Load(ExperimentSpec spec, ScalarType dtype)
    {
        foreach (var folder in spec.Losses.Select(loss => loss.Classifier).Append(spec.HeldOut?.Classifier).OfType<string>())
            Keep("classifier", folder, dtype, () => Placed(ClassifierFolder.Load(folder), dtype));
        foreach (var loss in spec.Losses)
        {
            if (loss.Clip is { } clip)
                Keep("clip", clip, dtype, () => Placed(ClipVisionModel.Load(clip), dtype));
            if (loss.ClipText is { } tower)
                foreach (var text in TextsOf(loss, spec))
                    Keep("text:" + text, tower, dtype, () => Embedding(tower, text, dtype));
            if (loss.File is not { } file)
                continue;
            // Files that have a dtype of their own keep it, unless more is asked for.
            ScalarType? wider = dtype == ScalarType.Float64 ? dtype : null;
            var (range, maximise) = (Range(loss), loss.Maximize ?? true);
            switch (loss.Name)
            {
                case LossName.TorchScript:
                    Keep(KindOf(loss), file, dtype, () => TorchScriptLoss.Load(file, range, maximise).To(device, wider));
                    break;
                case LossName.Onnx:
                    Keep(KindOf(loss), file, dtype, () => OnnxLoss.Load(file, loss.Column, range, maximise).To(device, wider));
                    break;
                case LossName.Aesthetic:
                    Keep(KindOf(loss), file, dtype, () => AestheticHead.Load(file));
                    break;
            }
        }
    }

    public ImageClassifier Classifier(string folder, ScalarType dtype) => Of<ImageClassifier>("classifier", folder, dtype);

    public ClipVisionModel Clip(string folder, ScalarType dtype) => Of<ClipVisionModel>("clip", folder, dtype);

    /// <summary>CLIP's embedding of a text, [1, width]; not owned.</summary>
    public Tensor Text(string folder, string text, ScalarType dtype) => Of<Tensor>("text:" + text, folder, dtype);

    public AestheticHead Head(LossSpec loss, ScalarType dtype) => Of<AestheticHead>(KindOf(loss), loss.File!, dtype);

    /// <summary>A reward from a file; not owned.</summary>
    public SampleLoss Reward(LossSpec loss, ScalarType dtype) => Of<SampleLoss>(KindOf(loss), loss.File!, dtype);

    /// <summary>Texts that CLIP is asked for: one for all samples, or each prompt's own.</summary>
    public static IReadOnlyList<string> TextsOf(LossSpec loss, ExperimentSpec spec) => loss.Text is { } text ? [text] : spec.Sample.Prompts ?? [];

    public static PixelRange Range(LossSpec loss) => loss.Range == PixelRangeName.Symmetric ? PixelRange.Symmetric : PixelRange.Unit;

    /// <summary>Frees what the losses of a spec do not need.</summary>
    /// <returns>Whether there was any.</returns>
    public bool Spare(ExperimentSpec spec, ScalarType dtype)
    {
        var named = spec.Losses.SelectMany(loss => new[] { loss.Classifier, loss.Clip, loss.ClipText, loss.File }).Append(spec.HeldOut?.Classifier).OfType<string>().ToHashSet();
        var unused = _loaded.Where(known => known.Key.Dtype != dtype || !named.Contains(known.Key.Path)).ToList();
        foreach (var (key, (_, loaded)) in unused)
        {
            _loaded.Remove(key);
            loaded.Dispose();
        }
        return unused.Count > 0;
    }

    public void Dispose()
    {
        foreach (var (_, loaded) in _loaded.Values)
            loaded.Dispose();
    }

    private static string KindOf(LossSpec loss) => $"{loss.Name}/{loss.Column}/{loss.Range}/{loss.Maximize}";

    private T Of<T>(string kind, string path, ScalarType dtype) => (T)_loaded[(kind, path, dtype)].Loaded;

    private void Keep(string kind, string path, ScalarType dtype, Func<IDisposable> load)
    {
        var stamp = LoadedModel.Stamp(path);
        if (_loaded.TryGetValue((kind, path, dtype), out var known) && known.Stamp == stamp)
            return;
        known.Loaded?.Dispose();
        _loaded.Remove((kind, path, dtype));
        _loaded[(kind, path, dtype)] = (stamp, load());
    }

    private T Placed<T>(T network, ScalarType dtype)
        where T : nn.Module
    {
        network.to(device, dtype);
        return network;
    }

    private Tensor Embedding(string folder, string text, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using var tower = ClipTextModel.Load(folder);
        return ClipSimilarityLoss.TextEmbedding(tower, ClipTokenizer.Load(folder), text).to(dtype, device).DetachFromDisposeScope();
    }
}
