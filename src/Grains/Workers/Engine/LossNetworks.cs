using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Clip;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The networks, files and reference pictures that losses look through and at, on a device, each loaded once and anew when its files change.</summary>
/// <remarks>Loaded before work begins, outside any dispose scope, since they are kept. They compute in the samples' dtype, so that a float64 run is one throughout.</remarks>
internal sealed class LossNetworks(Device device, OwnLosses own) : IDisposable
{
    private readonly Dictionary<(string Kind, string Path, ScalarType Dtype), Kept> _loaded = [];
    private readonly Dictionary<string, RewardSidecar> _sidecars = [];

    /// <summary>Losses that the host brought.</summary>
    public OwnLosses Own => own;

    /// <summary>Bytes of what is kept; of a file's own network as many as the file has.</summary>
    public long Bytes => _loaded.Values.Sum(kept => kept.Bytes);

    /// <summary>Loads everything that the losses and the held-out judge of a spec name.</summary>
    public void Load(ExperimentSpec spec, ScalarType dtype)
    {
        foreach (var folder in spec.AllLosses().Select(loss => loss.Classifier).Append(spec.HeldOut?.Classifier).OfType<string>())
            Keep("classifier", dtype, () => Placed(ClassifierFolder.Load(folder), dtype), folder);
        foreach (var loss in spec.AllLosses())
        {
            if (loss.Clip is { } clip)
                Keep("clip", dtype, () => Placed(ClipVisionModel.Load(clip), dtype), clip);
            if (loss.ClipText is { } tower)
                foreach (var text in TextsOf(loss, spec))
                    Keep("text:" + text, dtype, () => Embedding(tower, text, dtype), tower);
            if (loss.File is not { } file)
                continue;
            // Files that have a dtype of their own keep it, unless more is asked for.
            ScalarType? wider = dtype == ScalarType.Float64 ? dtype : null;
            var (range, maximise) = (Range(loss), loss.Maximize ?? true);
            switch (loss.Name)
            {
                case LossName.TorchScript:
                    Keep(KindOf(loss), dtype, () => TorchScriptLoss.Load(file, range, maximise).To(device, wider), file);
                    break;
                case LossName.Onnx:
                    Keep(KindOf(loss), dtype, () => OnnxLoss.Load(file, loss.Column, range, maximise).To(device, wider), file);
                    break;
                case LossName.Aesthetic:
                    Keep(KindOf(loss), dtype, () => AestheticHead.Load(file), file);
                    break;
            }
        }
    }

    /// <summary>Decodes the reference pictures of a spec and shows them to the networks that compare with them. After <see cref="Load"/>.</summary>
    /// <param name="spec">Spec.</param>
    /// <param name="dtype">Dtype of states.</param>
    /// <param name="channels">Channels of the model's pictures.</param>
    public void LoadReferences(ExperimentSpec spec, ScalarType dtype, long channels)
    {
        foreach (var loss in spec.AllLosses())
        {
            if (loss.Reference is not { } path)
                continue;
            Keep(PictureKind(channels, null), dtype, () => Picture(path, channels, null), path);
            Keep(PictureKind(channels, loss.Resize), dtype, () => Picture(path, channels, loss.Resize), path);
            var seen = Of<Tensor>(PictureKind(channels, loss.Resize), path, dtype);
            switch (loss.Name)
            {
                case LossName.GramStyle:
                    Keep(SeenKind(loss, channels), dtype, () => new GramStyleLoss(Classifier(loss.Classifier!, dtype), seen, Layers(loss)), path, loss.Classifier!);
                    break;
                case LossName.Content:
                    Keep(SeenKind(loss, channels), dtype, () => new FeatureDistanceLoss(Classifier(loss.Classifier!, dtype), seen, Layers(loss)), path, loss.Classifier!);
                    break;
                case LossName.Perceptual:
                    Keep(SeenKind(loss, channels), dtype, () => new PerceptualDistanceLoss(Classifier(loss.Classifier!, dtype), seen, Layers(loss)), path, loss.Classifier!);
                    break;
                case LossName.ClipGram:
                    Keep(SeenKind(loss, channels), dtype, () => new ClipGramLoss(Clip(loss.Clip!, dtype), seen.to(dtype), loss.Layer ?? 3, loss.Distance == GramDistanceName.Norm ? GramDistance.Norm : GramDistance.Relative), path, loss.Clip!);
                    break;
                case LossName.ClipSimilarity:
                    Keep(SeenKind(loss, channels), dtype, () => Embedding(Clip(loss.Clip!, dtype), seen.to(dtype)), path, loss.Clip!);
                    break;
            }
        }
    }

    public ImageClassifier Classifier(string folder, ScalarType dtype) => Of<ImageClassifier>("classifier", folder, dtype);

    public ClipVisionModel Clip(string folder, ScalarType dtype) => Of<ClipVisionModel>("clip", folder, dtype);

    /// <summary>CLIP's embedding of a text, [1, width]; not owned.</summary>
    public Tensor Text(string folder, string text, ScalarType dtype) => Of<Tensor>("text:" + text, folder, dtype);

    /// <summary>The loss of a TorchScript or ONNX file; not owned.</summary>
    public SampleLoss Reward(LossSpec loss, ScalarType dtype) => Of<SampleLoss>(KindOf(loss), loss.File!, dtype);

    public AestheticHead Head(LossSpec loss, ScalarType dtype) => Of<AestheticHead>(KindOf(loss), loss.File!, dtype);

    /// <summary>A reference picture, [1, C, H, W] in [-1, 1], float32; not owned.</summary>
    public Tensor Reference(string path, ScalarType dtype, long channels) => Of<Tensor>(PictureKind(channels, null), path, dtype);

    /// <summary>The loss that compares with a spec's reference; not owned.</summary>
    public SampleLoss Compared(LossSpec loss, ScalarType dtype, long channels) => Of<SampleLoss>(SeenKind(loss, channels), loss.Reference!, dtype);

    /// <summary>CLIP's embedding of a spec's reference, [1, width]; not owned.</summary>
    public Tensor Seen(LossSpec loss, ScalarType dtype, long channels) => Of<Tensor>(SeenKind(loss, channels), loss.Reference!, dtype);

    /// <summary>The processes of a spec's sidecar: kept, so that a batch begins with the address that answered the one before.</summary>
    public RewardSidecar Sidecar(LossSpec loss, HttpClient http, TimeProvider time)
    {
        var key = SidecarKey(loss);
        if (!_sidecars.TryGetValue(key, out var sidecar))
            _sidecars[key] = sidecar = new RewardSidecar(http, [.. loss.Addresses!.Select(address => new Uri(address))], new RewardSidecarOptions { Range = Range(loss), Maximise = loss.Maximize ?? true, Token = loss.SecretRef is { } reference ? SecretReference.Read(reference, Environment.GetEnvironmentVariable) : null }, time);
        return sidecar;
    }

    /// <summary>Texts that CLIP is asked for: one for all samples, or each prompt's own.</summary>
    public static IReadOnlyList<string> TextsOf(LossSpec loss, ExperimentSpec spec) => loss.Text is { } text ? [text] : spec.Sample.Prompts ?? [];

    public static PixelRange Range(LossSpec loss) => loss.Range == PixelRangeName.Symmetric ? PixelRange.Symmetric : PixelRange.Unit;

    public static Dictionary<string, double>? Layers(LossSpec loss) => loss.Layers?.ToDictionary(layer => layer, _ => 1.0);

    /// <summary>Frees what the losses of a spec do not need.</summary>
    /// <returns>Whether there was any.</returns>
    public bool Spare(ExperimentSpec spec, ScalarType dtype)
    {
        var named = spec.AllLosses().SelectMany(loss => new[] { loss.Classifier, loss.Clip, loss.ClipText, loss.File, loss.Reference }).Append(spec.HeldOut?.Classifier).OfType<string>().ToHashSet();
        var unused = _loaded.Where(known => known.Key.Dtype != dtype || !known.Value.Paths.All(named.Contains)).ToList();
        foreach (var (key, kept) in unused)
        {
            _loaded.Remove(key);
            kept.Loaded.Dispose();
        }
        var asked = spec.AllLosses().Where(loss => loss.Addresses is not null).Select(SidecarKey).ToHashSet();
        foreach (var key in _sidecars.Keys.Where(key => !asked.Contains(key)).ToList())
            _sidecars.Remove(key);
        return unused.Count > 0;
    }

    public void Dispose()
    {
        foreach (var kept in _loaded.Values)
            kept.Loaded.Dispose();
    }

    private static string KindOf(LossSpec loss) => $"{loss.Name}/{loss.Column}/{loss.Range}/{loss.Maximize}";

    private static string SidecarKey(LossSpec loss) => $"{string.Join(' ', loss.Addresses!)}/{loss.Range}/{loss.Maximize}/{loss.SecretRef}";

    private static string PictureKind(long channels, int? side) => $"picture/{channels}/{side}";

    private static string SeenKind(LossSpec loss, long channels) => $"{loss.Name}/{loss.Classifier ?? loss.Clip}/{string.Join(',', loss.Layers ?? [])}/{loss.Layer}/{loss.Distance}/{channels}/{loss.Resize}";

    private T Of<T>(string kind, string path, ScalarType dtype) => (T)_loaded[(kind, path, dtype)].Loaded;

    /// <param name="kind">What it is made of the first path.</param>
    /// <param name="dtype">Dtype of states.</param>
    /// <param name="load">Makes it.</param>
    /// <param name="paths">The files and folders that it hangs on: it is made anew when one changes, and let go with any of them.</param>
    private void Keep(string kind, ScalarType dtype, Func<IDisposable> load, params string[] paths)
    {
        var (key, stamp) = ((kind, paths[0], dtype), string.Join('\n', paths.Select(LoadedModel.Stamp)));
        if (_loaded.TryGetValue(key, out var known) && known.Stamp == stamp)
            return;
        known?.Loaded.Dispose();
        _loaded.Remove(key);
        var loaded = load();
        _loaded[key] = new(stamp, paths, loaded, loaded switch
        {
            nn.Module network => LoadedModel.BytesOf([network]),
            Tensor tensor => tensor.numel() * tensor.element_size(),
            _ => new FileInfo(paths[0]) is { Exists: true } file ? file.Length : 0,
        });
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

    private Tensor Picture(string path, long channels, int? side)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var picture = ReferenceImage.Load(path, channels).to(device);
        return (side is { } pixels ? ImageResize.To(picture, pixels, pixels) : picture).DetachFromDisposeScope();
    }

    private static Tensor Embedding(ClipVisionModel tower, Tensor picture)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        return tower.call(ImagePreparation.Clip(tower.Config.ImageSize).Apply(picture)).DetachFromDisposeScope();
    }

    private sealed record Kept(string Stamp, string[] Paths, IDisposable Loaded, long Bytes);
}
