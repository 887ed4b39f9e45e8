using AdjointDpm.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>A learnt word: its embeddings for each text encoder. Owns its tensors.</summary>
/// <remarks>Gal et al. (2022). Read and written: diffusers' (one tensor named by the word), kohya's and the web interfaces' <c>emb_params</c>, SDXL's pair <c>clip_l</c> and <c>clip_g</c>. Pickled files (.pt, .bin) are not read.</remarks>
/// <param name="Token">The word as it stands in prompts.</param>
/// <param name="Embeddings">[n, width] for each text encoder; n &gt; 1 is as many tokens.</param>
public sealed record TextualInversion(string Token, IReadOnlyList<Tensor> Embeddings) : IDisposable
{
    private const string Kohya = "emb_params", ClipL = "clip_l", ClipG = "clip_g";

    /// <summary>Reads a file of any of the dialects.</summary>
    /// <param name="path">The file.</param>
    /// <param name="token">The word. Default: the one in the file, or the file's name where it holds none.</param>
    /// <exception cref="SafetensorsException">The file is no textual inversion.</exception>
    public static TextualInversion Read(string path, string? token = null)
    {
        using var file = SafetensorsFile.Open(path);
        var fromName = System.IO.Path.GetFileNameWithoutExtension(path);
        var (word, names) = file.Names switch
        {
            [ClipG, ClipL] => (fromName, new[] { ClipL, ClipG }),
            [Kohya] => (fromName, [Kohya]),
            [var only] => (only, [only]),
            _ => throw new SafetensorsException(path, null, $"holds {file.Names.Count} tensors. A textual inversion holds one, or {ClipL} and {ClipG}."),
        };
        foreach (var name in names)
        {
            if (file.Shape(name).Count is not (1 or 2) || file.Shape(name).Any(d => d < 1) || file.Shape(name)[^1] > 8192)
                throw new SafetensorsException(path, name, $"has shape [{string.Join(", ", file.Shape(name))}]; embeddings are [n, width].");
        }

        return new(token ?? word, [.. names.Select(name => Rows(file.Read(name)).DetachFromDisposeScope())]);

        static Tensor Rows(Tensor x)
        {
            if (x.dim() == 2)
                return x;
            using (x)
                return x.unsqueeze(0);
        }
    }

    /// <summary>Writes diffusers' form: one tensor by the name of the word. For one text encoder.</summary>
    public void WriteDiffusers(string path) => Write(path, (Token, Single(path)));

    /// <summary>Writes what web interfaces read: <c>emb_params</c>, or SDXL's pair. There the file's name is the word.</summary>
    public void WriteWebUi(string path)
    {
        if (Embeddings.Count == 2)
            Write(path, (ClipL, Embeddings[0]), (ClipG, Embeddings[1]));
        else
            Write(path, (Kohya, Single(path)));
    }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        foreach (var embedding in Embeddings)
            embedding.Dispose();
    }

    private Tensor Single(string path) => Embeddings.Count == 1 ? Embeddings[0]
        : throw new SafetensorsException(path, null, $"would hold embeddings for {Embeddings.Count} text encoders, but the form has room for one. Write SDXL's pair.");

    private static void Write(string path, params (string Name, Tensor Value)[] tensors) =>
        SafetensorsWriter.WriteForTorch(path, tensors.ToDictionary(t => t.Name, t => t.Value));
}
