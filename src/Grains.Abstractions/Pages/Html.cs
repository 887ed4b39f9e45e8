using System.Globalization;
using System.Text;
using System.Xml.Linq;

namespace AdjointDpm.Grains.Pages;

/// <summary>What pages for the browser have in common. They are trees until they are sent: nothing that stands in them can be taken for markup.</summary>
internal static class Html
{
    private static readonly HashSet<string> Void = ["area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"];

    /// <summary>Colours, text, tables and charts.</summary>
    public const string Style = """
        :root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --rule: #d1d9e0; --paper: #ffffff; --panel: #f6f8fa; --accent: #0969da; --good: #1a7f37; --bad: #cf222e; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --rule: #3d444d; --paper: #0d1117; --panel: #151b23; --accent: #4493f8; --good: #3fb950; --bad: #f85149; } }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
        .meta, .note, footer { color: var(--soft); font-size: .9rem; }
        .scroll { overflow-x: auto; margin: .8rem 0; } table { border-collapse: collapse; font-size: .9rem; } th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; font-variant-numeric: tabular-nums; } thead th { color: var(--soft); font-weight: 600; } tbody th { font-weight: 500; }
        svg { display: block; width: 100%; max-width: 52rem; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--soft); } .grid, .axis { stroke: var(--rule); fill: none; } .line { stroke: var(--soft); stroke-opacity: .45; stroke-width: 1.3; fill: none; stroke-linejoin: round; } .line.best { stroke: var(--accent); stroke-opacity: 1; stroke-width: 2.4; } .dot { fill: var(--soft); fill-opacity: .6; } .dot.best { fill: var(--accent); fill-opacity: 1; } .heat { fill: var(--accent); } .part0 { fill: var(--accent); } .part1 { fill: var(--good); } .part2 { fill: #bf8700; } .part3 { fill: var(--bad); } .part4 { fill: #8250df; } .part5 { fill: var(--soft); } .part6 { fill: #1b7c83; } .part7 { fill: #bf3989; } .part8 { fill: var(--rule); } .dot.ring { fill: var(--paper); fill-opacity: 1; stroke: var(--accent); stroke-width: 2; }
        .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
        .pair { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-start; } .pair * { flex: 1 1 16rem; min-width: 0; max-width: 100%; } .pair img { width: 100%; height: auto; image-rendering: pixelated; border: 1px solid var(--rule); display: block; } .pair.over { display: grid; } .pair.over * { grid-area: 1 / 1; }
        .slide { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; font-size: .9rem; margin-top: .3rem; } .slide[hidden] { display: none; } .slide label { display: flex; gap: .6rem; align-items: center; flex: 1 1 14rem; } .slide input { flex: 1; min-width: 6rem; }
        .frames div { margin-bottom: .4rem; } .frames .at { display: block; color: var(--soft); font-size: .8rem; } .frames img { max-width: 100%; height: auto; image-rendering: pixelated; border: 1px solid var(--rule); display: block; } .frames.one div { display: none; } .frames.one div.now { display: block; } .slide output { min-width: 3rem; font-variant-numeric: tabular-nums; }
        pre { background: var(--panel); padding: .8rem; overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; margin: .6rem 0; } code { font-family: ui-monospace, monospace; }
        """;

    /// <summary>Sliders: <c>slides(root)</c> makes them work. Holds no character that markup would escape.</summary>
    public const string Script = """
        // Two pictures stand beside each other until somebody moves the slider: then one fades into the other, sample by sample in its place.
        function pair(slide, shown, input, apart) {
          var after = shown.lastElementChild;
          input.addEventListener('input', function () {
            shown.classList.add('over');
            after.style.opacity = input.value / 100;
            apart.hidden = false;
          });
          apart.addEventListener('click', function () {
            shown.classList.remove('over');
            after.style.opacity = '';
            apart.hidden = true;
            input.focus();
          });
        }

        // Of pictures after one step after the other one is shown, or all.
        function steps(slide, shown, input, button, output) {
          var frames = Array.from(shown.children);
          function show(one) {
            shown.classList.toggle('one', one);
            button.textContent = one ? 'below each other' : 'one by one';
            frames.forEach(function (frame, i) { frame.classList.toggle('now', String(i) === input.value); });
            output.textContent = frames[input.value].dataset.step;
          }
          input.addEventListener('input', function () { show(true); });
          button.addEventListener('click', function () { show(!shown.classList.contains('one')); });
          show(true);
        }

        function slides(root) {
          root.querySelectorAll('.slide[hidden]').forEach(function (slide) {
            var shown = slide.previousElementSibling, input = slide.querySelector('input'), button = slide.querySelector('button'), output = slide.querySelector('output');
            slide.hidden = false;
            if (output) steps(slide, shown, input, button, output); else pair(slide, shown, input, button);
          });
        }
        """;

    /// <summary>The page as text. Changes the tree: characters that no page can hold become replacement characters.</summary>
    public static string Text(XElement page)
    {
        foreach (var node in page.DescendantNodesAndSelf().ToList())
        {
            if (node is XText text && !text.Value.EnumerateRunes().All(IsText))
                text.Value = Clean(text.Value);
            if (node is not XElement element)
                continue;
            foreach (var attribute in element.Attributes())
                if (!attribute.Value.EnumerateRunes().All(IsText))
                    attribute.Value = Clean(attribute.Value);
            // A browser takes <td/> for a cell that is not closed.
            if (element.IsEmpty && !Void.Contains(element.Name.LocalName))
                element.Value = "";
        }
        return "<!doctype html>\n" + page.ToString(SaveOptions.DisableFormatting) + "\n";
    }

    /// <summary>A table, its first column the rows' names. Cells are elements, or values that are written out.</summary>
    public static XElement Table(IReadOnlyList<object> titles, IEnumerable<object?[]> rows) => new("div", new XAttribute("class", "scroll"), new XElement("table",
        new XElement("thead", new XElement("tr", titles.Select(title => new XElement("th", new XAttribute("scope", "col"), title)))),
        new XElement("tbody", rows.Select(row => new XElement("tr", row.Select((cell, i) => i == 0 ? new XElement("th", new XAttribute("scope", "row"), Cell(cell)) : new XElement("td", Cell(cell))))))));

    /// <summary>Two pictures beside each other, and a slider that lays one over the other: at the left end the first is seen, at the right end the second, which fades in at its place. Without scripts they stay beside each other.</summary>
    /// <param name="first">Picture.</param>
    /// <param name="second">Picture of the same size.</param>
    /// <param name="from">What the first is.</param>
    /// <param name="to">What the second is.</param>
    public static object[] Pair(XElement first, XElement second, string from, string to) =>
    [
        new XElement("div", new XAttribute("class", "pair"), first, second),
        new XElement("div", new XAttribute("class", "slide"), new XAttribute("hidden", "hidden"),
            new XElement("label", from + " ", new XElement("input", new XAttribute("type", "range"), new XAttribute("min", "0"), new XAttribute("max", "100"), new XAttribute("value", "50"), new XAttribute("aria-label", $"From {from} to {to}, laid over each other")), " " + to),
            new XElement("button", new XAttribute("type", "button"), new XAttribute("hidden", "hidden"), "beside each other")),
    ];

    /// <summary>Pictures of one thing after one step after the other. Without scripts they stand below each other; else a slider, by keyboard too, shows one of them.</summary>
    /// <param name="frames">Step, and address of its picture.</param>
    public static object[] Frames(IReadOnlyList<(int Step, string Source)> frames) =>
    [
        new XElement("div", new XAttribute("class", "frames"), frames.Select(frame => new XElement("div", new XAttribute("data-step", frame.Step),
            new XElement("span", new XAttribute("class", "at"), frame.Step == 0 ? "before" : $"step {frame.Step}"),
            new XElement("img", new XAttribute("alt", frame.Step == 0 ? "Samples before training" : $"Samples after step {frame.Step}"), new XAttribute("src", frame.Source), new XAttribute("loading", "lazy"))))),
        new XElement("div", new XAttribute("class", "slide step"), new XAttribute("hidden", "hidden"),
            new XElement("label", "step ", new XElement("input", new XAttribute("type", "range"), new XAttribute("min", "0"), new XAttribute("max", Math.Max(0, frames.Count - 1)), new XAttribute("value", frames.Count - 1), new XAttribute("aria-label", "Step of training")), new XElement("output", frames.Count == 0 ? "" : frames[^1].Step)),
            new XElement("button", new XAttribute("type", "button"), "below each other")),
    ];

    private static object? Cell(object? cell) => cell is XObject or IEnumerable<object> ? cell : Convert.ToString(cell, CultureInfo.InvariantCulture);

    // Half a pair of surrogates comes as a replacement character already.
    private static string Clean(string text) => string.Concat(text.EnumerateRunes().Select(rune => IsText(rune) ? rune : Rune.ReplacementChar));

    private static bool IsText(Rune rune) => rune.Value is '\t' or '\n' or '\r' or (>= ' ' and not (0xFFFE or 0xFFFF)) && rune != Rune.ReplacementChar;
}
