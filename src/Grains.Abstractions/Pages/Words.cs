using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Pages;

/// <summary>Numbers, times and states as people read them.</summary>
internal static class Words
{
    /// <summary>Four digits; an exponent only where it is shorter.</summary>
    public static string Number(double value)
    {
        if (double.IsNaN(value)) return "NaN";
        if (value == 0) return "0";
        var size = Math.Abs(value);
        return size is >= 1e5 or < 1e-3
            ? value.ToString("0.###e0", CultureInfo.InvariantCulture)
            : value.ToString(size >= 1000 ? "0" : size >= 100 ? "0.0" : size >= 10 ? "0.00" : size >= 1 ? "0.000" : size >= 0.1 ? "0.0000" : size >= 0.01 ? "0.00000" : "0.000000", CultureInfo.InvariantCulture);
    }

    public static string Span(TimeSpan span) =>
        span < TimeSpan.Zero ? "0s"
        : span.TotalSeconds < 10 ? span.TotalSeconds.ToString("0.0s", CultureInfo.InvariantCulture).Replace(".0s", "s", StringComparison.Ordinal)
        : span.TotalMinutes < 1 ? $"{(int)span.TotalSeconds}s"
        : span.TotalHours < 1 ? string.Create(CultureInfo.InvariantCulture, $"{span.Minutes}m{span.Seconds:00}s")
        : string.Create(CultureInfo.InvariantCulture, $"{(int)span.TotalHours}h{span.Minutes:00}m");

    public static string State(RunState state) => state.ToString().ToLowerInvariant();

    /// <summary>The state with its colour.</summary>
    public static string StateMarkup(RunState state) => state switch
    {
        RunState.Succeeded => "[green]succeeded[/]",
        RunState.Failed => "[red]failed[/]",
        RunState.Cancelled => "[yellow]cancelled[/]",
        RunState.Running => "[blue]running[/]",
        RunState.Paused => "[yellow]paused[/]",
        RunState.Stopped => "[grey]stopped[/]",
        _ => State(state),
    };

    public static bool Ended(RunState state) => state is RunState.Succeeded or RunState.Failed or RunState.Cancelled or RunState.Stopped;

    /// <summary>A count with its noun.</summary>
    public static string Count(int count, string noun) => string.Create(CultureInfo.InvariantCulture, $"{count} {noun}{(count == 1 ? "" : "s")}");

    /// <summary>Local date and time to the minute.</summary>
    public static string Time(DateTimeOffset time, TimeZoneInfo zone) =>
        TimeZoneInfo.ConvertTime(time, zone).ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);

    /// <summary>A small difference in two digits.</summary>
    public static string Error(double value) => value == 0 ? "0" : value.ToString("0.0e-0", CultureInfo.InvariantCulture);

    /// <summary>The last part of a parameter's path, or all of it where that is another one's too.</summary>
    public static string Short(string parameter, IReadOnlyCollection<string> all)
    {
        var last = Last(parameter);
        return all.Count(other => Last(other) == last) == 1 ? last : parameter;

        static string Last(string path) => path[(path.LastIndexOf('.') + 1)..];
    }

    private static readonly string[] Units = ["B", "KB", "MB", "GB", "TB"];

    /// <summary>Bytes with three digits and a decimal unit.</summary>
    public static string Size(long bytes)
    {
        var (value, unit) = ((double)bytes, 0);
        while (value >= 1000 && unit < Units.Length - 1)
            (value, unit) = (value / 1000, unit + 1);
        return value.ToString(unit == 0 || value >= 100 ? "f0" : "f1", CultureInfo.InvariantCulture) + " " + Units[unit];
    }
}
