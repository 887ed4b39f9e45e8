using System.Text.Json;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Tests.Formats;

namespace AdjointDpm.Tests.Models;

public sealed class ClipTokenizerTests(ITestOutputHelper output)
{
    private static readonly string Small = ReferenceFolder.Of("clip_tokenizer");

    private sealed record Golden(string Text, int[] Ids);

    /// <summary>A small vocabulary of the same kind, and ids by <c>Reference/clip_tokenizer/make.py</c>.</summary>
    [Fact]
    public void Encode_SmallVocabulary_IdsAreThoseOfPlainByteLevelBpe() => Compare(ClipTokenizer.Load(Small), Path.Combine(Small, "golden.json"), 200);

    /// <summary>CLIP's own vocabulary, which is part of the library: ids by the same plain BPE on OpenAI's table, seven of them by OpenAI's own code.</summary>
    [Fact]
    public void Encode_ClipVocabulary_IdsAreOpenAis()
    {
        var tokenizer = ClipTokenizer.OpenAi();
        Compare(tokenizer, Path.Combine(Small, "clip.json"), 60);
        Assert.Equal((49406, 49407, 49407, 77, 49408), (tokenizer.Begin, tokenizer.End, tokenizer.Pad, tokenizer.Length, tokenizer.VocabularySize));
        Assert.Equal([49406, 320, 1125, 539, 320, 3240, 49407], tokenizer.Encode("a photo of a fox"));
        Assert.Equal([49406, 320, 1125, 539, 320, 2368, 49407], tokenizer.Encode("  A photo\nof a   CAT "));
        Assert.Equal([49406, 1097, 35689, 563, 15304, 39121, 44353, 34002, 508, 14860, 49407], tokenizer.Encode("naïve café 日本語 🙂"));
        Assert.Equal((0, 49407), (ClipTokenizer.OpenAi("!").Pad, ClipTokenizer.OpenAi("!").End));
        Assert.Contains("'<pad>'", Assert.Throws<ModelConfigException>(() => ClipTokenizer.OpenAi("<pad>")).Message, StringComparison.Ordinal);
    }

    /// <summary>Written as a folder it is what transformers has: token for token where such a folder is at hand.</summary>
    [Fact]
    public void Save_ClipVocabulary_ReadsBackAndIsThePublishedOne()
    {
        using var folder = new TemporaryFolder();
        ClipTokenizer.OpenAi("!").Save(folder.Path);
        var again = ClipTokenizer.Load(folder.Path);
        Assert.Equal(0, again.Pad);
        Compare(again, Path.Combine(Small, "clip.json"), 60);
        var published = Path.Combine(TinyStableDiffusionTests.Fixtures, "tiny-sd", "tokenizer", "vocab.json");
        if (!File.Exists(published))
        {
            output.WriteLine($"There is no folder of CLIP's tokenizer beside the repository ({published}), so the vocabulary was not compared with one.");
            return;
        }

        static Dictionary<string, int> Vocabulary(string path) => JsonSerializer.Deserialize<Dictionary<string, int>>(File.ReadAllText(path))!;
        Assert.Equal(Vocabulary(published).OrderBy(v => v.Value), Vocabulary(folder["vocab.json"]).OrderBy(v => v.Value));
    }

    [Fact]
    public void EncodePadded_CutsBeforeTheEndTokenAndPads()
    {
        var tokenizer = ClipTokenizer.Load(Small);
        using var ids = tokenizer.EncodePadded(["a photo", string.Join(' ', Enumerable.Repeat("7", 100)), string.Join(' ', Enumerable.Repeat("7", 75))]);
        Assert.Equal([3L, 77], ids.shape);
        var rows = ids.data<long>().ToArray();
        var first = tokenizer.Encode("a photo");
        Assert.Equal(first.Select(i => (long)i), rows[..first.Count]);
        Assert.All(rows[first.Count..77], id => Assert.Equal(tokenizer.Pad, id));
        Assert.Equal(tokenizer.End, rows[(2 * 77) - 1]);
        Assert.Equal(rows[(2 * 77) - 2], rows[77 + 1]);
        Assert.Equal(rows[77..(2 * 77)], rows[(2 * 77)..]);
    }

    [Fact]
    public void Encode_BrokenSurrogates_AreReplacedAndNothingThrows()
    {
        var tokenizer = ClipTokenizer.Load(Small);
        Assert.Equal(tokenizer.Encode("a \uFFFD b"), tokenizer.Encode("a \uD83D b"));
    }

    [Fact]
    public void Load_PadTokenOfOpenClip_AndBrokenFolders()
    {
        using var folder = new TemporaryFolder();
        foreach (var file in new[] { "vocab.json", "merges.txt" })
            File.Copy(Path.Combine(Small, file), folder[file]);
        File.WriteAllText(folder["special_tokens_map.json"], """{"pad_token":{"content":"!"}}""");
        var tokenizer = ClipTokenizer.Load(folder.Path);
        Assert.Equal((0, 77), (tokenizer.Pad, tokenizer.Length));
        File.WriteAllText(folder["special_tokens_map.json"], """{"pad_token":"<pad>"}""");
        Assert.Contains("'<pad>'", Assert.Throws<ModelConfigException>(() => ClipTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
        File.AppendAllText(folder["merges.txt"], "not there\n");
        Assert.Contains("'not there'", Assert.Throws<ModelConfigException>(() => ClipTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
        File.Delete(folder["merges.txt"]);
        Assert.Contains("merges.txt", Assert.Throws<ModelConfigException>(() => ClipTokenizer.Load(folder.Path)).Message, StringComparison.Ordinal);
    }

    private static void Compare(ClipTokenizer tokenizer, string golden, int least)
    {
        var cases = JsonSerializer.Deserialize<Golden[]>(File.ReadAllText(golden), JsonSerializerOptions.Web)!;
        Assert.True(cases.Length >= least);
        Assert.All(cases, c => Assert.Equal(c.Ids, tokenizer.Encode(c.Text)));
    }
}
