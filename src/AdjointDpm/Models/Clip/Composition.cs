using System.Globalization;
using System.Text;

namespace AdjointDpm.Models.Clip;

/// <summary>Unicode's canonical composition (normalisation form C).</summary>
/// <remarks>The runtime's own needs ICU and, where globalisation is invariant as in our containers, silently returns the text as it was. The tables are Unicode's, see <c>composition.py</c>.</remarks>
internal static class Composition
{
    private const int HangulBase = 0xAC00, LeadBase = 0x1100, VowelBase = 0x1161, TailBase = 0x11A7, Leads = 19, Vowels = 21, Tails = 28;
    private static readonly Dictionary<int, int[]> Decompositions = [];
    private static readonly Dictionary<(int, int), int> Pairs = [];
    private static readonly Dictionary<int, int> Classes = [];

    static Composition()
    {
        using var stream = typeof(Composition).Assembly.GetManifestResourceStream("AdjointDpm.composition.txt")!;
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (line[0] == '#')
                continue;
            var fields = line.Split(' ');
            var code = Hex(fields[1]);
            if (fields[0] == "m")
            {
                Classes[code] = int.Parse(fields[2], CultureInfo.InvariantCulture);
                continue;
            }

            var parts = Decompositions[code] = [.. fields[2..].Select(Hex)];
            if (fields[0] == "c" && parts.Length == 2)
                Pairs[(parts[0], parts[1])] = code;
        }
    }

    /// <summary>The composed form of a well-formed text.</summary>
    public static string Compose(string text)
    {
        if (Ascii.IsValid(text))
            return text;
        var runes = new List<int>(text.Length);
        foreach (var rune in text.EnumerateRunes())
            Decompose(rune.Value, runes);
        Order(runes);
        var result = new StringBuilder(text.Length);
        foreach (var rune in Join(runes))
            result.Append(new Rune(rune).ToString());
        return result.ToString();
    }

    private static void Decompose(int code, List<int> into)
    {
        if (code - HangulBase is >= 0 and < Leads * Vowels * Tails and var syllable)
        {
            into.Add(LeadBase + (syllable / (Vowels * Tails)));
            into.Add(VowelBase + (syllable % (Vowels * Tails) / Tails));
            if (syllable % Tails != 0)
                into.Add(TailBase + (syllable % Tails));
        }
        else if (Decompositions.TryGetValue(code, out var parts))
        {
            foreach (var part in parts)
                Decompose(part, into);
        }
        else
        {
            into.Add(code);
        }
    }

    // Marks behind one letter, by class; equal classes keep their order.
    private static void Order(List<int> runes)
    {
        for (var i = 1; i < runes.Count; i++)
        {
            for (var j = i; j > 0 && Class(runes[j]) != 0 && Class(runes[j - 1]) > Class(runes[j]); j--)
                (runes[j - 1], runes[j]) = (runes[j], runes[j - 1]);
        }
    }

    private static List<int> Join(List<int> runes)
    {
        var joined = new List<int>(runes.Count);
        int starter = -1, last = -1;
        foreach (var rune in runes)
        {
            var its = Class(rune);
            // A mark reaches its letter unless one of the same class, or a letter, stands between.
            if (starter >= 0 && (last < its || last == -1) && Pair(joined[starter], rune) is { } pair)
            {
                joined[starter] = pair;
                continue;
            }

            if (its == 0)
                (starter, last) = (joined.Count, -1);
            else
                last = its;
            joined.Add(rune);
        }

        return joined;
    }

    private static int? Pair(int a, int b)
    {
        if (a - LeadBase is >= 0 and < Leads and var lead && b - VowelBase is >= 0 and < Vowels and var vowel)
            return HangulBase + (((lead * Vowels) + vowel) * Tails);
        if (a - HangulBase is >= 0 and < Leads * Vowels * Tails and var syllable && syllable % Tails == 0 && b - TailBase is > 0 and < Tails and var tail)
            return HangulBase + syllable + tail;
        return Pairs.TryGetValue((a, b), out var code) ? code : null;
    }

    private static int Class(int code) => Classes.GetValueOrDefault(code);

    private static int Hex(string text) => int.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
