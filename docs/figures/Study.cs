namespace AdjointDpm.Figures;

/// <summary>One measurement: a table in a page, and figures drawn from it.</summary>
/// <param name="Name">Name of the table in the page's markers.</param>
/// <param name="Page">File in docs/.</param>
/// <param name="Header">Head of the table.</param>
/// <param name="Measure">Measures the rows, one after the other; the first ones are quick.</param>
/// <param name="Draw">Figures of a table.</param>
internal sealed record Study(string Name, string Page, string[] Header, Func<IEnumerable<string[]>> Measure, Func<Table, IEnumerable<Figure>> Draw)
{
    public static IReadOnlyList<Study> All { get; } = [SamplerErrors.Fixed, SamplerErrors.Adaptive, StochasticErrors.Study, AdjointGap.Steps, AdjointDeisGap.Study, AdjointGap.Truncation, AdjointGap.Tolerances, Costs.Evaluations, Costs.Tensors, Costs.Memory];

    public static string Digits(double value, string format) => double.IsFinite(value) ? value.ToString(format, System.Globalization.CultureInfo.InvariantCulture) : "–";

    /// <summary>Two digits and a power of ten: what an error is worth.</summary>
    public static string Error(double value) => Digits(value, "0.0e+0");
}
