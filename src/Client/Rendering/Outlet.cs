using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering;

/// <summary>One stream that people read: a terminal, or plain text for a file or a pipe.</summary>
/// <remarks>Plain text is written here and not by Spectre: its console without ANSI sets the colours of the process's own terminal.</remarks>
internal sealed class Outlet(IAnsiConsole console, TextWriter writer, bool terminal)
{
    /// <summary>Width of tables that go to a file or a pipe: wide enough that no row breaks.</summary>
    private const int PlainWidth = 10_000;

    public IAnsiConsole Console => console;

    /// <summary>Whether it understands control characters, so that what was written can be drawn anew.</summary>
    public bool IsTerminal => terminal;

    /// <summary>Whether cells can have colours of their own.</summary>
    public bool ShowsPictures => terminal && console.Profile.Capabilities.ColorSystem is ColorSystem.EightBit or ColorSystem.TrueColor;

    public int Width => console.Profile.Width;

    public static Outlet Open(TextWriter writer, bool terminal, bool color, int? width = null)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = terminal ? AnsiSupport.Yes : AnsiSupport.No,
            ColorSystem = terminal && color ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = terminal ? InteractionSupport.Yes : InteractionSupport.No,
            Out = new AnsiConsoleOutput(writer),
        });
        if (!terminal) console.Profile.Width = PlainWidth;
        if (width is { } columns) console.Profile.Width = columns;
        return new Outlet(console, writer, terminal);
    }

    /// <summary>Writes whole lines.</summary>
    public void Write(IRenderable renderable)
    {
        if (terminal)
        {
            // Rows end the last line of text, which text itself does not.
            console.Write(new Rows(renderable));
            return;
        }

        foreach (var line in Lines(renderable, Width)) Raw(line);
    }

    /// <summary>A line with markup; long ones are broken, never cut.</summary>
    public void Line(string markup)
    {
        if (markup.Length > 0) Write(new Markup(markup) { Overflow = Overflow.Fold });
        else if (terminal) console.WriteLine();
        else Raw("");
    }

    /// <summary>A line exactly as it is.</summary>
    public void Raw(string text)
    {
        writer.Write(text);
        writer.Write('\n');
        writer.Flush();
    }

    /// <summary>Whether no line of it would be cut or broken.</summary>
    public bool Fits(IRenderable renderable) => Lines(renderable, PlainWidth).All(line => line.Length <= Width);

    private IEnumerable<string> Lines(IRenderable renderable, int width)
    {
        var segments = renderable.Render(RenderOptions.Create(console, console.Profile.Capabilities), width).Where(segment => !segment.IsControlCode);
        return string.Concat(segments.Select(segment => segment.IsLineBreak ? "\n" : segment.Text)).TrimEnd('\n').Split('\n').Select(line => line.TrimEnd());
    }
}
