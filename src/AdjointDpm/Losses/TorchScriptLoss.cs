using System.IO.Compression;
using System.Runtime.InteropServices;
using AdjointDpm.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A reward of one's own from a TorchScript file: <c>forward(image [B, C, H, W]) -> [B]</c>. The loss is minus the score, or the score itself for a file that gives losses.</summary>
/// <remarks>
/// <para>Made in Python with <c>torch.jit.script(module).save("reward.pt")</c> or <c>torch.jit.trace</c>; trace only with the batch and picture sizes that will be used. Resizing and normalising belong into the file.</para>
/// <para>It runs operation by operation, without the optimisations that libtorch would start at the second call (on Linux): the same samples have the same bits at every call and in every process.</para>
/// <para>Loaded for evaluation with its weights held constant. The file runs code of TorchScript's own language, not Python; it can still take all memory and time, so load files that you trust.</para>
/// </remarks>
public sealed class TorchScriptLoss : SampleLoss, IDisposable
{
    private readonly string _path;
    private readonly jit.ScriptModule<Tensor, Tensor> _module;
    private readonly PixelRange _range;
    private readonly bool _maximise;
    private ScalarType? _dtype;

    private TorchScriptLoss(string path, jit.ScriptModule<Tensor, Tensor> module, PixelRange range, bool maximise)
    {
        (_path, _module, _range, _maximise) = (path, module, range, maximise);
        Refresh();
    }

    /// <summary>Loads a file onto the CPU.</summary>
    /// <param name="path">Path of the file.</param>
    /// <param name="range">Values of the pictures that its <c>forward</c> takes. Default: [0, 1].</param>
    /// <param name="maximise">Whether its scores are better the higher they are. Default: true.</param>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">It is no TorchScript file, or has no <c>forward</c>; the message says what it is.</exception>
    public static TorchScriptLoss Load(string path, PixelRange range = PixelRange.Unit, bool maximise = true)
    {
        CheckFile(path);
        NativeTorch.EnsureLoaded();
        jit.ScriptModule<Tensor, Tensor> module;
        try
        {
            module = jit.load<Tensor, Tensor>(path);
        }
        catch (ExternalException error)
        {
            throw new InvalidDataException($"{path}: libtorch cannot read this TorchScript file: {FirstLine(error)} It may be damaged, or of a newer PyTorch, or use operations of torchvision or an extension; save it again without them.", error);
        }

        module.eval();
        foreach (var parameter in module.parameters())
            parameter.requires_grad_(false);
        return new(path, module, range, maximise);
    }

    /// <summary>Moves the reward to a device, and its floating-point weights to a dtype.</summary>
    /// <param name="device">Where the samples are.</param>
    /// <param name="dtype">Dtype to compute in. Default: as it is.</param>
    /// <returns>The loss itself.</returns>
    public TorchScriptLoss To(Device device, ScalarType? dtype = null)
    {
        _module.to(device);
        if (dtype is { } other)
            _module.to(other);
        Refresh();
        return this;
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidDataException">The file's <c>forward</c> fails, or gives something else than one score for each picture.</exception>
    /// <exception cref="NoGradientException">The scores do not depend on the picture in a differentiable way.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var images = RewardInput.Of(samples, _range);
        var scores = RewardInput.Scores(_path, Run(_dtype is { } dtype ? images.to(dtype) : images), samples);
        if (is_grad_enabled() && samples.requires_grad && !scores.requires_grad)
            throw new NoGradientException($"{_path} gives scores without a gradient with respect to the picture.");
        return (_maximise ? scores.neg() : scores.alias()).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the reward.</summary>
    public void Dispose() => _module.Dispose();

    private static void CheckFile(string path)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: there is no such file. A TorchScript reward is made with torch.jit.script(module).save(\"{Path.GetFileName(path)}\").", path);
        string[] entries;
        try
        {
            using var zip = ZipFile.OpenRead(path);
            entries = [.. zip.Entries.Select(e => e.FullName)];
        }
        catch (InvalidDataException error)
        {
            throw new InvalidDataException($"{path}: this is no TorchScript file, or one cut short. Make it with torch.jit.script(module).save(…), not with pickle, ONNX or safetensors.", error);
        }

        // torch.save writes the same kind of archive, with a pickle and no code.
        if (!entries.Any(e => e.Contains("/code/", StringComparison.Ordinal)))
        {
            throw new InvalidDataException(entries.Any(e => e.EndsWith("/data.pkl", StringComparison.Ordinal))
                ? $"{path}: this is what torch.save writes: weights or a pickled object, without the code of a forward. Save the module with torch.jit.script(module).save(…)."
                : $"{path}: this is a zip file, but no TorchScript file: it has no code. Save the module with torch.jit.script(module).save(…).");
        }
    }

    private static string FirstLine(Exception error) => error.Message.Split('\n', 2)[0].Trim();

    private void Refresh() => _dtype = _module.parameters().Where(p => p.is_floating_point()).Select(p => (ScalarType?)p.dtype).FirstOrDefault();

    private Tensor Run(Tensor images)
    {
        using var plain = PlainTorchScript.Begin();
        try
        {
            return _module.call(images);
        }
        catch (ExternalException error)
        {
            throw new InvalidDataException($"{_path}: forward fails for pictures {images.dtype}[{string.Join(", ", images.shape)}]: {error.Message}", error);
        }
        catch (Exception error) when (error is InvalidCastException or NotImplementedException or NotSupportedException)
        {
            throw new InvalidDataException($"{_path}: forward gives something else than one tensor; expected the scores [{images.shape[0]}].", error);
        }
    }
}
