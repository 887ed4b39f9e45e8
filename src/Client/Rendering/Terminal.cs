using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering;

/// <summary>Results go to <see cref="Out"/>, everything else to <see cref="Error"/>.</summary>
internal sealed class Terminal
{
    /// <summary>Width of tables that go to a file or a pipe: wide enough that no row breaks.</summary>
    private const int PlainWidth = 400;

    private readonly TextWriter _out;

    public Terminal(IAnsiConsole output, TextWriter outWriter, IAnsiConsole error, bool live)
    {
        (Out, _out, Error, Live) = (output, outWriter, error, live);
    }

    public IAnsiConsole Out { get; }

    public IAnsiConsole Error { get; }

    /// <summary>Whether progress may redraw itself: standard error is a terminal that understands control characters.</summary>
    public bool Live { get; }

    public static Terminal Real()
    {
        var color = string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        var dumb = Environment.GetEnvironmentVariable("TERM") is "dumb";
        var live = !Console.IsErrorRedirected && !dumb;
        return new Terminal(
            Open(Console.Out, !Console.IsOutputRedirected && !dumb, color), Console.Out, Open(Console.Error, live, color), live);
    }

    /// <summary>A console over a writer: plain text unless it is a terminal.</summary>
    public static IAnsiConsole Open(TextWriter writer, bool terminal, bool color, int? width = null)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = terminal ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = terminal && color ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = terminal ? InteractionSupport.Detect : InteractionSupport.No,
            Out = new AnsiConsoleOutput(writer),
        });
        if (!terminal) console.Profile.Width = PlainWidth;
        if (width is { } columns) console.Profile.Width = columns;
        return console;
    }

    /// <summary>Text to standard output exactly as it is.</summary>
    public void WriteRaw(string text)
    {
        _out.Write(text);
        _out.Write('\n');
        _out.Flush();
    }

    /// <summary>A table or the like to standard output; without the padding that tables end their rows with when it is no terminal.</summary>
    public void Write(IRenderable renderable)
    {
        if (Out.Profile.Capabilities.Ansi)
        {
            Out.Write(renderable);
            return;
        }

        foreach (var line in Lines(renderable, Out.Profile.Width)) WriteRaw(line);
    }

    /// <summary>Whether no line of it would be cut or broken.</summary>
    public bool Fits(IRenderable renderable) => Lines(renderable, PlainWidth).All(line => line.Length <= Out.Profile.Width);

    /// <summary>A line to standard output, with markup.</summary>
    public void Line(string markup = "") => Write(markup.Length == 0 ? new Text("") : new Markup(markup) { Overflow = Overflow.Fold });

    /// <summary>A line to standard error, with markup.</summary>
    public void Note(string markup) => Error.MarkupLine(markup);

    private static IEnumerable<string> Lines(IRenderable renderable, int width)
    {
        var text = new StringWriter { NewLine = "\n" };
        Open(text, terminal: false, color: false, width).Write(renderable);
        return text.ToString().TrimEnd('\n').Split('\n').Select(line => line.TrimEnd());
    }
}
