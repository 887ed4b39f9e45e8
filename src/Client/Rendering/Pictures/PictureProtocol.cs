using System.Globalization;
using System.Text.RegularExpressions;

namespace AdjointDpm.Client.Rendering.Pictures;

/// <summary>How pictures are shown in a terminal.</summary>
internal enum PictureProtocol
{
    /// <summary>Not at all: their paths stand for them.</summary>
    None,

    /// <summary>Two pixels a character: over any connection and through any multiplexer.</summary>
    Blocks,

    /// <summary>DEC's Sixel.</summary>
    Sixel,

    /// <summary>kitty's graphics protocol.</summary>
    Kitty,

    /// <summary>iTerm2's inline images.</summary>
    Iterm2,
}

/// <summary>The terminal's line, for a question and its answer.</summary>
internal interface ITerminalLine
{
    /// <summary>Sends bytes, and reads what comes until they suffice or the time is over. Null when nothing can be asked here.</summary>
    byte[]? Ask(ReadOnlySpan<byte> question, Func<ReadOnlySpan<byte>, bool> suffices, TimeSpan patience);
}

/// <summary>Finds out what the terminal can show.</summary>
internal static partial class PictureProtocols
{
    public const string Variable = "ADPM_PICTURES";

    /// <summary>A picture of one pixel that is only asked about, and then what every terminal answers: what comes before that is kitty's answer, or there is none.</summary>
    public static ReadOnlySpan<byte> Question => "\e_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\e\\\e[c"u8;

    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(100);

    /// <param name="variable">Environment.</param>
    /// <param name="showsBlocks">Whether cells of the terminal can have colours of their own; false of what is no terminal.</param>
    /// <param name="line">Line to the terminal.</param>
    public static PictureProtocol Find(Func<string, string?> variable, bool showsBlocks, ITerminalLine line)
    {
        if (variable(Variable) is { Length: > 0 } given)
            return given.ToLowerInvariant() switch
            {
                "none" => PictureProtocol.None,
                "blocks" => showsBlocks ? PictureProtocol.Blocks : PictureProtocol.None,
                _ when !showsBlocks => PictureProtocol.None,
                "sixel" => PictureProtocol.Sixel,
                "kitty" => PictureProtocol.Kitty,
                "iterm2" => PictureProtocol.Iterm2,
                _ => PictureProtocol.Blocks,
            };
        if (!showsBlocks)
            return PictureProtocol.None;
        // A multiplexer draws the screen anew, and knows of no pictures in it.
        if (variable("TMUX") is { Length: > 0 } || variable("STY") is { Length: > 0 } || variable("TERM") is { } term && (term.StartsWith("screen", StringComparison.Ordinal) || term.StartsWith("tmux", StringComparison.Ordinal)))
            return PictureProtocol.Blocks;
        var answer = line.Ask(Question, static bytes => Attributes().IsMatch(Latin(bytes)), Patience) is { } bytes ? Latin(bytes) : "";
        var attributes = Attributes().Match(answer);
        var kitty = answer.IndexOf("\e_Gi=31;OK", StringComparison.Ordinal);
        if (kitty >= 0 && (!attributes.Success || kitty < attributes.Index))
            return PictureProtocol.Kitty;
        if (attributes.Success && attributes.Groups[1].Value.Split(';').Contains("4"))
            return PictureProtocol.Sixel;
        return variable("LC_TERMINAL") == "iTerm2" || variable("TERM_PROGRAM") is "iTerm.app" or "WezTerm" ? PictureProtocol.Iterm2 : PictureProtocol.Blocks;
    }

    private static string Latin(ReadOnlySpan<byte> bytes) => System.Text.Encoding.Latin1.GetString(bytes);

    /// <summary>The answer to DA1: what the terminal is and can.</summary>
    [GeneratedRegex("\e\\[\\?([0-9;]*)c", RegexOptions.CultureInvariant)]
    private static partial Regex Attributes();
}

/// <summary>Pictures as the terminals' own protocols want them.</summary>
internal static class PictureBytes
{
    /// <summary>Characters of one of kitty's escapes.</summary>
    private const int Chunk = 4096;

    /// <summary>A PNG file so many columns wide.</summary>
    public static string Kitty(ReadOnlySpan<byte> png, int columns)
    {
        var text = Convert.ToBase64String(png);
        var escapes = new System.Text.StringBuilder();
        for (var at = 0; at < text.Length; at += Chunk)
        {
            var more = at + Chunk < text.Length ? 1 : 0;
            // Quietly: an answer would come as if it were typed.
            escapes.Append(CultureInfo.InvariantCulture, $"\e_G{(at == 0 ? $"a=T,f=100,q=2,c={columns}," : "")}m={more};").Append(text.AsSpan(at, Math.Min(Chunk, text.Length - at))).Append("\e\\");
        }

        return escapes.ToString();
    }

    /// <summary>A PNG file so many columns wide.</summary>
    public static string Iterm2(ReadOnlySpan<byte> png, int columns) =>
        string.Create(CultureInfo.InvariantCulture, $"\e]1337;File=inline=1;size={png.Length};width={columns};height=auto;preserveAspectRatio=1:{Convert.ToBase64String(png)}\a");
}
