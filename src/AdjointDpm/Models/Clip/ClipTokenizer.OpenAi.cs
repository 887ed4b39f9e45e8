using System.IO.Compression;

namespace AdjointDpm.Models.Clip;

public sealed partial class ClipTokenizer
{
    private static readonly Lazy<(Dictionary<string, int> Vocabulary, List<string> Merges)> Published = new(ReadPublished);

    /// <summary>CLIP's own tokenizer with its 49,408 tokens, as all of Stable Diffusion uses it: for models that come without one, such as single files.</summary>
    /// <remarks>The merges are lines 2 to 48,895 of OpenAI's <c>bpe_simple_vocab_16e6.txt</c> (MIT licence, in this assembly beside them); the vocabulary follows from them.</remarks>
    /// <param name="pad">The token that fills up: OpenAI's CLIP pads with the end token, OpenCLIP (Stable Diffusion 2, the second of XL) with <c>!</c>. Default: the end token.</param>
    /// <exception cref="ModelConfigException">There is no such token.</exception>
    public static ClipTokenizer OpenAi(string pad = EndToken) => new(Published.Value.Vocabulary, Published.Value.Merges, pad, UsualLength);

    // Bytes, bytes that end a word, merged pairs, then the two special tokens.
    private static (Dictionary<string, int> Vocabulary, List<string> Merges) ReadPublished()
    {
        using var stream = typeof(ClipTokenizer).Assembly.GetManifestResourceStream("AdjointDpm.clip_merges.txt.gz")!;
        using var reader = new StreamReader(new GZipStream(stream, CompressionMode.Decompress));
        var merges = new List<string>(48_894);
        while (reader.ReadLine() is { } line)
            merges.Add(line);
        // Printable bytes stand for themselves and come first; the others follow as characters from 256 on.
        bool IsPrintable(int b) => b is >= '!' and <= '~' or >= 0xA1 and <= 0xAC or >= 0xAE and <= 0xFF;
        var all = Enumerable.Range(0, 256);
        string[] bytes = [.. all.Where(IsPrintable).Select(b => ((char)b).ToString()), .. all.Where(b => !IsPrintable(b)).Select((_, n) => ((char)(256 + n)).ToString())];
        string[] tokens = [.. bytes, .. bytes.Select(b => b + "</w>"), .. merges.Select(m => m.Replace(" ", "", StringComparison.Ordinal)), BeginToken, EndToken];
        return (tokens.Select((token, id) => (token, id)).ToDictionary(t => t.token, t => t.id, StringComparer.Ordinal), merges);
    }
}
