using System.Diagnostics;
using System.Globalization;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Bench;

/// <summary>How near searches come to the minimum of known functions in 100 trials, beside Optuna where Debian's python3-optuna is installed.</summary>
internal static class SearchRegret
{
    private static readonly AlgorithmName[] All = [AlgorithmName.Random, AlgorithmName.Sobol, AlgorithmName.Tpe, AlgorithmName.CmaEs, AlgorithmName.Gp];

    private static readonly AlgorithmName[] OptunaHas = [AlgorithmName.Random, AlgorithmName.Tpe];

    private static readonly (string Name, (double Min, double Max)[] Box, double Least, Func<double[], double> At)[] Functions =
    [
        ("branin", [(-5, 10), (0, 15)], 0.39788735772973816, x =>
            Math.Pow(x[1] - 5.1 / (4 * Math.PI * Math.PI) * x[0] * x[0] + 5 / Math.PI * x[0] - 6, 2) + 10 * (1 - 1 / (8 * Math.PI)) * Math.Cos(x[0]) + 10),
        ("rosenbrock4", [.. Enumerable.Repeat((-2.0, 2.0), 4)], 0, x => Enumerable.Range(0, 3).Sum(i => 100 * Math.Pow(x[i + 1] - x[i] * x[i], 2) + Math.Pow(1 - x[i], 2))),
        ("ackley5", [.. Enumerable.Repeat((-10.0, 20.0), 5)], 0, x =>
            20 - 20 * Math.Exp(-0.2 * Math.Sqrt(x.Sum(v => v * v) / 5)) + Math.E - Math.Exp(x.Sum(v => Math.Cos(2 * Math.PI * v)) / 5)),
        ("levy4", [.. Enumerable.Repeat((-10.0, 10.0), 4)], 0, Levy),
        ("hartmann6", [.. Enumerable.Repeat((0.0, 1.0), 6)], -3.32236801141551, Hartmann),
    ];

    public static void Run(int seeds, int trials, string? python, string? only)
    {
        AlgorithmName[] names = only is null ? All : [.. only.Split(',').Select(name => Enum.Parse<AlgorithmName>(name, ignoreCase: true))], beside = python is null ? [] : [.. OptunaHas.Where(names.Contains)];
        Console.WriteLine($"Median (quartiles) over {seeds} seeds of the regret after {trials} trials: best value found less the minimum.");
        Console.WriteLine();
        Console.WriteLine($"| function | {string.Join(" | ", names.Select(name => name.ToString()).Concat(beside.Select(name => $"Optuna {name}")))} |");
        Console.WriteLine($"|---|{string.Concat(names.Concat(beside).Select(_ => "---|"))}");
        var slowest = names.ToDictionary(name => name, _ => 0.0);
        foreach (var function in Functions)
        {
            var cells = names.Select(name => Cell([.. Enumerable.Range(1, seeds).Select(seed => Regret(function, name, seed, trials, slowest))])).ToList();
            cells.AddRange(beside.Select(name => Cell(Optuna(python!, name.ToString().ToLowerInvariant(), function.Name, seeds, trials))));
            Console.WriteLine($"| {function.Name} | {string.Join(" | ", cells)} |");
        }
        Console.WriteLine();
        Console.WriteLine($"Longest suggestion, ms: {string.Join(", ", slowest.Select(pair => $"{pair.Key} {pair.Value:f1}"))}.");
        var many = Space(Functions[4].Box) with { Algorithm = new AlgorithmSpec { Name = AlgorithmName.Tpe }, MaxTrials = 2001 };
        var random = new Search(many with { Algorithm = new AlgorithmSpec { Name = AlgorithmName.Random } });
        var tpe = new Search(many);
        _ = tpe.Suggest(1900, random.ValuesOf, trial => trial % 37);
        var clock = Stopwatch.StartNew();
        for (var trial = 1951; trial <= 2000; trial++)
            _ = tpe.Suggest(trial, random.ValuesOf, earlier => earlier % 37);
        Console.WriteLine($"A suggestion of Tpe at 2,000 trials of 6 parameters takes {clock.Elapsed.TotalMilliseconds / 50:f1} ms in the mean.");
    }

    private static double Regret((string Name, (double Min, double Max)[] Box, double Least, Func<double[], double> At) function, AlgorithmName name, int seed, int trials, Dictionary<AlgorithmName, double> slowest)
    {
        var search = new Search(Space(function.Box) with { Algorithm = new AlgorithmSpec { Name = name, Seed = seed }, MaxTrials = trials });
        var results = new List<(IReadOnlyDictionary<string, string> Values, double Value)>();
        for (var trial = 0; trial < trials; trial++)
        {
            var clock = Stopwatch.StartNew();
            var values = search.Learns ? search.Suggest(trial, earlier => results[earlier].Values, earlier => results[earlier].Value) : search.ValuesOf(trial);
            slowest[name] = Math.Max(slowest[name], clock.Elapsed.TotalMilliseconds);
            results.Add((values, function.At([.. values.Values.Select(value => double.Parse(value, CultureInfo.InvariantCulture))])));
        }
        return results.Min(result => result.Value) - function.Least;
    }

    private static double[] Optuna(string python, string sampler, string function, int seeds, int trials)
    {
        using var process = Process.Start(new ProcessStartInfo(python, [Path.Combine("bench", "optuna_regret.py"), sampler, function, seeds.ToString(CultureInfo.InvariantCulture), trials.ToString(CultureInfo.InvariantCulture)]) { RedirectStandardOutput = true })!;
        var text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? [.. text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(value => double.Parse(value, CultureInfo.InvariantCulture))] : [];
    }

    private static string Cell(double[] regrets)
    {
        if (regrets.Length == 0)
            return "none";
        var sorted = regrets.Order().ToArray();
        return $"{sorted[sorted.Length / 2]:g2} ({sorted[sorted.Length / 4]:g2}–{sorted[3 * sorted.Length / 4]:g2})";
    }

    /// <summary>A spec whose parameters are only names here.</summary>
    private static ExperimentSpec Space((double Min, double Max)[] box) => new()
    {
        Model = new ModelSpec { Path = "/" },
        Losses = [],
        Parameters = box.Select((side, i) => (Name: $"x{i}", Domain: new ParameterSpec { Min = side.Min, Max = side.Max })).ToDictionary(pair => pair.Name, pair => pair.Domain),
    };

    private static double Levy(double[] x)
    {
        var w = x.Select(v => 1 + (v - 1) / 4).ToArray();
        var sum = Math.Pow(Math.Sin(Math.PI * w[0]), 2) + Math.Pow(w[^1] - 1, 2) * (1 + Math.Pow(Math.Sin(2 * Math.PI * w[^1]), 2));
        for (var i = 0; i < w.Length - 1; i++)
            sum += Math.Pow(w[i] - 1, 2) * (1 + 10 * Math.Pow(Math.Sin(Math.PI * w[i] + 1), 2));
        return sum;
    }

    private static double Hartmann(double[] x)
    {
        double[] alpha = [1, 1.2, 3, 3.2];
        double[][] a = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]];
        double[][] p = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]];
        return -Enumerable.Range(0, 4).Sum(i => alpha[i] * Math.Exp(-Enumerable.Range(0, 6).Sum(j => a[i][j] * Math.Pow(x[j] - p[i][j] * 1e-4, 2))));
    }
}
