using System.Globalization;
using System.Text;
using Microsoft.ML.Tokenizers;

namespace AdjointDpm.Models.Clip;

/// <summary>Cuts a normalised text into the words that CLIP merges within: contractions, runs of letters, single digits, runs of anything else.</summary>
/// <remarks>
/// CLIP's expression is <c>'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+</c>. It counts characters, .NET's expressions
/// UTF-16 units, which takes letters and digits beyond the basic plane for signs: hence by hand.
/// </remarks>
internal sealed class ClipPreTokenizer : PreTokenizer
{
    private static readonly string[] Contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

    private enum Kind
    {
        Space,
        Letter,
        Number,
        Sign,
    }

    public override IEnumerable<(int Offset, int Length)> PreTokenize(string text) => Cut(text);

    public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text) => Cut(text);

    private static List<(int Offset, int Length)> Cut(ReadOnlySpan<char> text)
    {
        var words = new List<(int, int)>();
        for (var at = 0; at < text.Length;)
        {
            var length = Word(text[at..], out var kind);
            if (kind != Kind.Space)
                words.Add((at, length));
            at += length;
        }

        return words;
    }

    private static int Word(ReadOnlySpan<char> text, out Kind kind)
    {
        foreach (var contraction in Contractions)
        {
            if (text.StartsWith(contraction, StringComparison.Ordinal))
            {
                kind = Kind.Sign;
                return contraction.Length;
            }
        }

        kind = KindAt(text, out var length);
        if (kind is Kind.Number or Kind.Space)
            return length;
        while (length < text.Length && KindAt(text[length..], out var next) == kind)
            length += next;
        return length;
    }

    private static Kind KindAt(ReadOnlySpan<char> text, out int length)
    {
        _ = Rune.DecodeFromUtf16(text, out var rune, out length);
        return Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Rune.IsWhiteSpace(rune) ? Kind.Space : Kind.Sign,
        };
    }
}
