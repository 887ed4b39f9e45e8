using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.ML.Tokenizers;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Clip;

/// <summary>CLIP's byte-level BPE tokenizer, as Stable Diffusion's folders carry it: <c>vocab.json</c> and <c>merges.txt</c>.</summary>
/// <remarks>
/// Text is composed (NFC), its white space collapsed, and set in lower case, as transformers' fast tokenizer does; then words get
/// <c>&lt;/w&gt;</c> at their end and are merged. Special tokens written in the text become themselves. Safe for use by several threads once no words are added.
/// </remarks>
public sealed partial class ClipTokenizer
{
    private const string BeginToken = "<|startoftext|>", EndToken = "<|endoftext|>";
    private const int UsualLength = 77;

    private readonly BpeTokenizer _words;
    private readonly Dictionary<string, (int First, int Count)> _special;

    private readonly IReadOnlyDictionary<string, int> _vocabulary;
    private readonly IReadOnlyList<string> _merges;
    private readonly string _pad;

    private ClipTokenizer(IReadOnlyDictionary<string, int> vocabulary, IReadOnlyList<string> merges, string pad, int length)
    {
        (_vocabulary, _merges, _pad) = (vocabulary, merges, pad);
        Length = length;
        (Begin, End) = (Required(BeginToken), Required(EndToken));
        Pad = Required(pad);
        VocabularySize = vocabulary.Count;
        _special = new(StringComparer.Ordinal) { [BeginToken] = (Begin, 1), [EndToken] = (End, 1) };
        _words = BpeTokenizer.Create(new BpeOptions(vocabulary)
        {
            Merges = merges,
            EndOfWordSuffix = "</w>",
            ByteLevel = true,
            UnknownToken = EndToken,
            PreTokenizer = new ClipPreTokenizer(),
        });

        int Required(string token) => vocabulary.TryGetValue(token, out var id) ? id
            : throw new ModelConfigException($"The tokenizer's vocabulary has no '{token}', which it needs. Check that vocab.json is CLIP's.");
    }

    /// <summary>Id of the token that begins a text: 49406.</summary>
    public int Begin { get; }

    /// <summary>Id of the token that ends a text: 49407.</summary>
    public int End { get; }

    /// <summary>Id of the token that fills up to <see cref="Length"/>: the end token for OpenAI's CLIP, <c>!</c> (0) for OpenCLIP.</summary>
    public int Pad { get; }

    /// <summary>Tokens of an encoded text, begin, end and padding included: 77.</summary>
    public int Length { get; }

    /// <summary>Number of tokens: 49408.</summary>
    public int VocabularySize { get; }

    /// <summary>Reads a tokenizer's folder: <c>vocab.json</c>, <c>merges.txt</c>, and <c>special_tokens_map.json</c> and <c>tokenizer_config.json</c> where they are.</summary>
    /// <exception cref="ModelConfigException">A file is missing or malformed.</exception>
    public static ClipTokenizer Load(string folder)
    {
        var (vocabularyPath, mergesPath) = (Path.Combine(folder, "vocab.json"), Path.Combine(folder, "merges.txt"));
        if (!File.Exists(mergesPath))
            throw new ModelConfigException($"{mergesPath}: there is no such file. A CLIP tokenizer's folder holds vocab.json and merges.txt.");
        var vocabulary = ModelConfig.Read<Dictionary<string, int>>(vocabularyPath);
        var merges = File.ReadLines(mergesPath).Where(line => line.Length > 0 && !line.StartsWith("#version", StringComparison.Ordinal)).ToList();
        foreach (var merge in merges)
        {
            if (merge.Split(' ') is not [var left, var right] || !vocabulary.ContainsKey(left + right))
                throw new ModelConfigException($"{mergesPath}: '{merge}' is not two parts of a token in vocab.json. Get both files again from one model.");
        }

        var config = Optional(Path.Combine(folder, "tokenizer_config.json"));
        var pad = Token(Optional(Path.Combine(folder, "special_tokens_map.json")), "pad_token") ?? Token(config, "pad_token") ?? EndToken;
        var length = config is { } c && c.TryGetProperty("model_max_length", out var max) && max.ValueKind == JsonValueKind.Number && max.TryGetInt32(out var most) ? most : UsualLength;
        return length is >= 2 and <= 4096
            ? new ClipTokenizer(vocabulary, merges, pad, length)
            : throw new ModelConfigException($"{folder}: model_max_length is {length}. CLIP's is 77.");
    }

    /// <summary>Writes a tokenizer's folder that transformers loads. Added words are not part of it.</summary>
    public void Save(string folder)
    {
        ModelConfig.Write(Path.Combine(folder, "vocab.json"), _vocabulary);
        File.WriteAllText(Path.Combine(folder, "merges.txt"), "#version: 0.2\n" + string.Concat(_merges.Select(m => m + "\n")));
        ModelConfig.Write(Path.Combine(folder, "special_tokens_map.json"), new Dictionary<string, string>
        {
            ["bos_token"] = BeginToken,
            ["eos_token"] = EndToken,
            ["unk_token"] = EndToken,
            ["pad_token"] = _pad,
        });
        ModelConfig.Write(Path.Combine(folder, "tokenizer_config.json"), new JsonObject { ["model_max_length"] = Length, ["tokenizer_class"] = "CLIPTokenizer" });
    }

    /// <summary>Adds a word with ids of its own behind the vocabulary, for embeddings that were learnt.</summary>
    /// <param name="token">The word as it stands in prompts, such as <c>&lt;my-cat&gt;</c>.</param>
    /// <param name="count">How many ids it stands for. Default: 1.</param>
    /// <returns>The first id: the vocabulary's size plus the number of ids added before.</returns>
    /// <exception cref="ArgumentException">The word is known already.</exception>
    public int Add(string token, int count = 1)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(token);
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        var first = VocabularySize + _special.Values.Sum(s => s.Count) - 2;
        if (!_special.TryAdd(token, (first, count)))
            throw new ArgumentException($"The tokenizer has a token '{token}' already. Choose another word.", nameof(token));
        return first;
    }

    /// <summary>Ids of a text: begin, words, end; as long as the text is.</summary>
    public IReadOnlyList<int> Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int> { Begin };
        var rest = text.AsSpan();
        while (!rest.IsEmpty)
        {
            var (at, token) = FirstSpecial(rest);
            var words = Normalise(rest[..at]);
            if (words.Length > 0)
                ids.AddRange(_words.EncodeToIds(words, considerNormalization: false));
            if (token is null)
                break;
            ids.AddRange(Enumerable.Range(_special[token].First, _special[token].Count));
            rest = rest[(at + token.Length)..];
        }

        ids.Add(End);
        return ids;
    }

    /// <summary>Ids of several texts, cut or padded to <see cref="Length"/>: int64 [B, 77], on the CPU.</summary>
    /// <param name="texts">The texts.</param>
    public Tensor EncodePadded(IReadOnlyList<string> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        var all = new long[texts.Count * Length];
        for (var b = 0; b < texts.Count; b++)
        {
            var ids = Encode(texts[b]);
            for (var n = 0; n < Length; n++)
            {
                // What is cut off is cut before the end token.
                all[(b * Length) + n] = n >= ids.Count ? Pad : n == Length - 1 ? End : ids[n];
            }
        }

        return tensor(all, [texts.Count, Length], dtype: int64);
    }

    private (int At, string? Token) FirstSpecial(ReadOnlySpan<char> text)
    {
        var (best, token) = (text.Length, (string?)null);
        foreach (var candidate in _special.Keys)
        {
            var at = text.IndexOf(candidate, StringComparison.OrdinalIgnoreCase);
            // The longest of those that begin at the same place.
            if (at >= 0 && (at < best || (at == best && candidate.Length > (token?.Length ?? 0))))
                (best, token) = (at, candidate);
        }

        return (best, token);
    }

    private static string Normalise(ReadOnlySpan<char> text)
    {
        var result = new StringBuilder(text.Length);
        foreach (var rune in Composition.Compose(WellFormed(text)).EnumerateRunes())
        {
            if (Rune.IsWhiteSpace(rune))
            {
                if (result.Length > 0 && result[^1] != ' ')
                    result.Append(' ');
            }
            else if (rune.Value == 0x130)
            {
                // The one letter whose lower case is two characters.
                result.Append("i\u0307");
            }
            else
            {
                result.Append(Rune.ToLowerInvariant(rune).ToString());
            }
        }

        return result.ToString().TrimEnd(' ');
    }

    // Half a surrogate pair cannot be composed; it becomes the replacement character.
    private static string WellFormed(ReadOnlySpan<char> text)
    {
        var result = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
            result.Append(rune.ToString());
        return result.ToString();
    }

    private static JsonElement? Optional(string path) => File.Exists(path) ? ModelConfig.Read<JsonElement>(path) : null;

    private static string? Token(JsonElement? from, string name)
    {
        if (from is not { ValueKind: JsonValueKind.Object } map || !map.TryGetProperty(name, out var token))
            return null;
        if (token.ValueKind == JsonValueKind.Object)
            return token.TryGetProperty("content", out var content) ? content.GetString() : null;
        return token.ValueKind == JsonValueKind.String ? token.GetString() : null;
    }
}
