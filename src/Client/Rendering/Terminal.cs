using AdjointDpm.Client.Rendering.Pictures;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering;

/// <summary>Results go to <see cref="Out"/>, everything else to <see cref="Error"/>.</summary>
/// <param name="Out">Standard output.</param>
/// <param name="Error">Standard error.</param>
/// <param name="Live">Whether progress may redraw itself: standard error is a terminal that understands control characters.</param>
internal sealed record Terminal(Outlet Out, Outlet Error, bool Live)
{
    private readonly Lazy<PictureProtocol>? _pictures;

    /// <summary>How pictures are shown on standard output: found out when the first is.</summary>
    public PictureProtocol Pictures => _pictures?.Value ?? (Out.ShowsPictures ? PictureProtocol.Blocks : PictureProtocol.None);

    /// <summary>A terminal that says by itself how it shows pictures.</summary>
    public Terminal Asking(Func<string, string?> variable, ITerminalLine line) => this with { Asked = () => PictureProtocols.Find(variable, Out.ShowsPictures, line) };

    private Func<PictureProtocol> Asked { init => _pictures = new Lazy<PictureProtocol>(value); }

    /// <summary>The process's own streams.</summary>
    public static Terminal Real() => Of(Environment.GetEnvironmentVariable, (Console.Out, Console.IsOutputRedirected), (Console.Error, Console.IsErrorRedirected), new TerminalLine());

    /// <param name="variable">Environment: NO_COLOR, TERM, and what says how pictures are shown.</param>
    /// <param name="output">Standard output, and whether it is no terminal.</param>
    /// <param name="error">Standard error, likewise.</param>
    /// <param name="line">Line to the terminal.</param>
    public static Terminal Of(Func<string, string?> variable, (TextWriter Writer, bool Redirected) output, (TextWriter Writer, bool Redirected) error, ITerminalLine line)
    {
        // https://no-color.org: set and not empty.
        var color = string.IsNullOrEmpty(variable("NO_COLOR"));
        var dumb = variable("TERM") is "dumb";
        var live = !error.Redirected && !dumb;
        return new Terminal(Outlet.Open(output.Writer, !output.Redirected && !dumb, color), Outlet.Open(error.Writer, live, color), live).Asking(variable, line);
    }

    /// <summary>Text to standard output exactly as it is.</summary>
    public void WriteRaw(string text) => Out.Raw(text);

    /// <summary>A table or the like to standard output.</summary>
    public void Write(IRenderable renderable) => Out.Write(renderable);

    /// <summary>A line to standard output, with markup.</summary>
    public void Line(string markup = "") => Out.Line(markup);

    /// <summary>A line to standard error, with markup.</summary>
    public void Note(string markup) => Error.Line(markup);
}
