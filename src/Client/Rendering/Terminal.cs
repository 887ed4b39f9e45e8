using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering;

/// <summary>Results go to <see cref="Out"/>, everything else to <see cref="Error"/>.</summary>
/// <param name="Out">Standard output.</param>
/// <param name="Error">Standard error.</param>
/// <param name="Live">Whether progress may redraw itself: standard error is a terminal that understands control characters.</param>
internal sealed record Terminal(Outlet Out, Outlet Error, bool Live)
{
    public static Terminal Real()
    {
        var color = string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        var dumb = Environment.GetEnvironmentVariable("TERM") is "dumb";
        var live = !Console.IsErrorRedirected && !dumb;
        return new Terminal(Outlet.Open(Console.Out, !Console.IsOutputRedirected && !dumb, color), Outlet.Open(Console.Error, live, color), live);
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
