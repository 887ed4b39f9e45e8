using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using AdjointDpm.Client.Rendering.Pictures;
using SkiaSharp;

namespace AdjointDpm.Client.Tests.Rendering;

public sealed partial class PictureProtocolTests
{
    private const string Kitty = "\e_Gi=31;OK\e\\", Sixels = "\e[?62;4;22c", Plain = "\e[?62;22c";

    [Theory]
    [InlineData(Kitty + Sixels, "", "Kitty")]
    [InlineData(Kitty + Plain, "", "Kitty")]
    [InlineData(Sixels, "", "Sixel")]
    [InlineData(Plain, "", "Blocks")]
    [InlineData("\e[?64;14;40c", "", "Blocks")] // 14 and 40 are not 4
    [InlineData("\e_Gi=31;ENOTSUPPORTED:no\e\\" + Plain, "", "Blocks")]
    [InlineData("", "", "Blocks")] // no answer in time
    [InlineData(Plain, "TERM_PROGRAM=iTerm.app", "Iterm2")]
    [InlineData(Plain, "LC_TERMINAL=iTerm2", "Iterm2")]
    [InlineData(Sixels, "TERM_PROGRAM=WezTerm", "Sixel")]
    [InlineData(Kitty + Sixels, "ADPM_PICTURES=sixel", "Sixel")]
    [InlineData(Kitty + Sixels, "ADPM_PICTURES=none", "None")]
    public void Protocol_IsWhatTheTerminalAnswers(string answer, string variable, string expected) =>
        Assert.Equal(expected, PictureProtocols.Find(name => variable.StartsWith(name + "=", StringComparison.Ordinal) ? variable[(name.Length + 1)..] : null, showsBlocks: true, new FakeLine(answer)).ToString());

    [Theory]
    [InlineData("TMUX", "/tmp/tmux-0/default,1,0", true)]
    [InlineData("STY", "1.pts-0", true)]
    [InlineData("TERM", "screen-256color", true)]
    [InlineData("TERM", "tmux-256color", true)]
    [InlineData("TERM", "xterm-kitty", false)] // no terminal at all
    public void Multiplexers_AndFiles_AreAskedNothing(string name, string value, bool isTerminal)
    {
        var line = new FakeLine(Kitty + Sixels);
        Assert.Equal(isTerminal ? PictureProtocol.Blocks : PictureProtocol.None, PictureProtocols.Find(asked => asked == name ? value : null, isTerminal, line));
        Assert.Equal(0, line.Questions);
    }

    [Fact]
    public async Task Terminal_IsAskedOnItsOwnLine_WhichIsAsItWasAfterwards()
    {
        var master = OpenMaster(2 | 0x100);
        Assert.True(master >= 0 && Grant(master) == 0 && Unlock(master) == 0);
        var path = Marshal.PtrToStringUTF8(NameOf(master))!;
        // A line that nobody holds open is closed for the other side, too.
        var held = Open(path, 2 | 0x100);
        var before = Settings(path);
        var asked = new List<byte>();
        var terminal = Task.Run(() =>
        {
            // What is typed meanwhile, and an answer in pieces.
            var bytes = new byte[256];
            while (!asked.TakeLast(3).SequenceEqual("\e[c"u8.ToArray()))
            {
                var got = Read(master, bytes, (nuint)bytes.Length);
                asked.AddRange(bytes[..(int)got]);
            }

            foreach (var piece in new[] { "x\e_Gi=3", "1;OK\e", "\\\e[?62;", "4c" })
                Assert.Equal(piece.Length, Write(master, Encoding.ASCII.GetBytes(piece), (nuint)piece.Length));
        }, TestContext.Current.CancellationToken);
        var answer = new TerminalLine(path).Ask(PictureProtocols.Question, bytes => bytes.IndexOf((byte)'c') >= 0, TimeSpan.FromSeconds(30));
        await terminal;
        Assert.Equal(PictureProtocols.Question.ToArray(), asked);
        Assert.Equal("x\e_Gi=31;OK\e\\\e[?62;4c", Encoding.ASCII.GetString(answer!));
        Assert.Equal(before, Settings(path));
        // Nobody answers: what came until then, which is nothing.
        Assert.Empty(new TerminalLine(path).Ask("\e[c"u8, _ => true, TimeSpan.FromMilliseconds(5))!);
        Assert.Null(new TerminalLine("/dev/null").Ask("\e[c"u8, _ => true, TimeSpan.FromMilliseconds(5)));
        Assert.Null(new TerminalLine("/no/such/line").Ask("\e[c"u8, _ => true, TimeSpan.FromMilliseconds(5)));
        Assert.Equal((0, 0), (Close(held), Close(master)));
    }

    [Fact]
    public void Kitty_SendsThePngInPieces_Quietly()
    {
        var png = Enumerable.Range(0, 10_000).Select(i => (byte)(i * 7)).ToArray();
        var escapes = Escape().Matches(PictureBytes.Kitty(png, 40)).Select(match => (Keys: match.Groups[1].Value, Data: match.Groups[2].Value)).ToList();
        Assert.Equal(["a=T,f=100,q=2,c=40,m=1", "m=1", "m=1", "m=0"], escapes.Select(escape => escape.Keys));
        Assert.All(escapes, escape => Assert.InRange(escape.Data.Length, 1, 4096));
        Assert.Equal(png, Convert.FromBase64String(string.Concat(escapes.Select(escape => escape.Data))));
        Assert.Equal(string.Concat(escapes.Select(escape => $"\e_G{escape.Keys};{escape.Data}\e\\")), PictureBytes.Kitty(png, 40));
    }

    [Fact]
    public void Iterm2_SendsThePngWhole() => Assert.Equal("\e]1337;File=inline=1;size=3;width=12;height=auto;preserveAspectRatio=1:AQID\a", PictureBytes.Iterm2([1, 2, 3], 12));

    [Fact]
    public void Sixel_OfFewColours_IsThePicture()
    {
        using var picture = new SKBitmap(37, 20);
        picture.Pixels = [.. Enumerable.Range(0, 37 * 20).Select(i => (i % 37 / 9, i / 37 / 7) switch { (0, _) => SKColors.Red, (1, 1) => SKColors.Black, (2, _) => new SKColor(51, 102, 153), _ => SKColors.White })];
        Assert.Equal(picture.Pixels, Decode(Sixel.Of(picture)));
    }

    [Fact]
    public void Sixel_OfManyColours_IsNearThePicture()
    {
        using var picture = new SKBitmap(64, 64);
        picture.Pixels = [.. Enumerable.Range(0, 64 * 64).Select(i => new SKColor((byte)(i % 64 * 4), (byte)(i / 64 * 4), (byte)((i % 64) + (i / 64))))];
        var shown = Decode(Sixel.Of(picture));
        // Pixel by pixel it is another colour; over eight by eight of them it is the same.
        for (var y = 8; y < 56; y += 8)
            for (var x = 8; x < 56; x += 8)
                foreach (var channel in new Func<SKColor, int>[] { color => color.Red, color => color.Green, color => color.Blue })
                    Assert.Equal(Mean(picture.Pixels, x, y, channel), Mean(shown, x, y, channel), 14.0);
    }

    private static double Mean(SKColor[] pixels, int left, int top, Func<SKColor, int> channel) =>
        Enumerable.Range(0, 64).Average(i => channel(pixels[((top + (i / 8)) * 64) + left + (i % 8)]));

    /// <summary>Reads Sixel as a terminal does.</summary>
    private static SKColor[] Decode(string text)
    {
        var size = Size().Match(text);
        var (width, height) = (int.Parse(size.Groups[1].ValueSpan), int.Parse(size.Groups[2].ValueSpan));
        var (pixels, palette) = (new SKColor[width * height], new Dictionary<int, SKColor>());
        var (x, top, color, times) = (0, 0, SKColors.Empty, 1);
        for (var at = size.Index + size.Length; at < text.Length && text[at] != '\e'; at++)
        {
            if (text[at] == '#')
            {
                var digits = Numbers().Match(text, at + 1);
                var numbers = digits.Value.Split(';').Select(int.Parse).ToArray();
                if (numbers.Length == 5) palette[numbers[0]] = new SKColor(Full(numbers[2]), Full(numbers[3]), Full(numbers[4]));
                color = palette[numbers[0]];
                at += digits.Length;
            }
            else if (text[at] == '!')
            {
                var digits = Numbers().Match(text, at + 1);
                times = int.Parse(digits.ValueSpan);
                at += digits.Length;
            }
            else if (text[at] == '$')
            {
                x = 0;
            }
            else if (text[at] == '-')
            {
                (x, top) = (0, top + 6);
            }
            else
            {
                for (; times > 0; times--, x++)
                    for (var row = 0; row < 6; row++)
                        if ((text[at] - '?' >> row & 1) != 0) pixels[((top + row) * width) + x] = color;
                times = 1;
            }
        }

        return pixels;

        static byte Full(int percent) => (byte)Math.Round(percent * 2.55, MidpointRounding.AwayFromZero);
    }

    private static byte[] Settings(string path)
    {
        var line = Open(path, 2 | 0x100);
        var settings = new byte[256];
        Assert.Equal(0, GetSettings(line, settings));
        Assert.Equal(0, Close(line));
        return settings;
    }

    private sealed class FakeLine(string answer) : ITerminalLine
    {
        public int Questions { get; private set; }

        public byte[]? Ask(ReadOnlySpan<byte> question, Func<ReadOnlySpan<byte>, bool> suffices, TimeSpan patience)
        {
            Questions++;
            Assert.True(question.SequenceEqual(PictureProtocols.Question));
            Assert.Equal(answer.EndsWith('c'), suffices(Encoding.ASCII.GetBytes(answer)));
            Assert.InRange(patience, TimeSpan.FromMilliseconds(1), TimeSpan.FromMilliseconds(100));
            return Encoding.ASCII.GetBytes(answer);
        }
    }

    [GeneratedRegex("\e_G([^;]*);([^\e]*)\e\\\\")]
    private static partial Regex Escape();

    [GeneratedRegex("^\ePq\"1;1;([0-9]+);([0-9]+)")]
    private static partial Regex Size();

    [GeneratedRegex("\\G[0-9;]+")]
    private static partial Regex Numbers();

    [LibraryImport("libc", EntryPoint = "posix_openpt")]
    private static partial int OpenMaster(int flags);

    [LibraryImport("libc", EntryPoint = "grantpt")]
    private static partial int Grant(int master);

    [LibraryImport("libc", EntryPoint = "unlockpt")]
    private static partial int Unlock(int master);

    [LibraryImport("libc", EntryPoint = "ptsname")]
    private static partial nint NameOf(int master);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "read")]
    private static partial nint Read(int line, byte[] into, nuint count);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint Write(int line, byte[] bytes, nuint count);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int line);

    [LibraryImport("libc", EntryPoint = "tcgetattr")]
    private static partial int GetSettings(int line, byte[] settings);
}
