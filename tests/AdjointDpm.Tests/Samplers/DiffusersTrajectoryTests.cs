using System.Text.Json;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Schedulers of diffusers step by step on closed-form networks, from their configuration alone.</summary>
public sealed class DiffusersTrajectoryTests
{
    private static readonly string Golden = Path.GetFullPath(Path.Combine(ReferenceFolder.Root(), "..", "shared", "fixtures", "scheduler_golden.json"));

    // Trajectories of diffusers 0.14 for eps = 0.9 tanh(x) (0.2 + 0.8 t / 1000) + 0.05 sin(3x), where they are at hand.
    [Fact]
    public void Schedulers_ClosedFormNetwork_FollowDiffusersStepByStep()
    {
        Assert.SkipUnless(File.Exists(Golden), "The trajectories are not part of the repository.");
        using var file = JsonDocument.Parse(File.ReadAllText(Golden));
        foreach (var run in file.RootElement.GetProperty("runs").EnumerateArray())
        {
            var name = run.GetProperty("name").GetString()!;
            var config = Config(name) with { BetaStart = 0.00085, BetaEnd = 0.012, BetaSchedule = "scaled_linear" };
            var grid = config.Grid(run.GetProperty("steps").GetInt32());
            var trajectory = run.GetProperty("trajectory").EnumerateArray().Select(x => x.EnumerateArray().Select(v => v.GetDouble()).ToArray()).ToArray();
            var interpolated = TimeGrid.FamilyOf(config.ClassName) == SchedulerFamily.Interpolated;
            for (var k = 0; k < trajectory[0].Length; k++)
            {
                // These schedulers keep x / alpha; the others x.
                double Kept(double x, GridPoint at) => interpolated ? x / at.Level.Alpha : x;
                var steps = new List<double>();
                ScalarWalk.Run(config.Sampler(), grid, trajectory[0][k] * (interpolated ? grid.Start.Level.Alpha : 1), Network(config.Prediction), visit: (n, x) => steps.Add(Kept(x, grid.Points[n + 1])));
                // Heun's and PNDM's trajectories show their trial steps too.
                var expected = trajectory.Skip(1).Select(x => x[k]).Where((_, n) => name switch { "Heun" => n % 2 == 1 || n == trajectory.Length - 2, "PNDM_plms" => n != 0, _ => true }).ToArray();
                Assert.Equal(expected.Length, steps.Count);
                for (var n = 0; n < steps.Count; n++)
                    Assert.True(Math.Abs(steps[n] - expected[n]) <= 2e-5 * Math.Max(1, Math.Abs(expected[n])), $"{name}, {grid.Steps} steps, element {k}, step {n}: {steps[n]:r}, diffusers {expected[n]:r}");
            }
        }
    }

    public static TheoryData<string> Configurations() => [.. Runs().Select(r => r.GetProperty("name").GetString()!)];

    // Times and states of the diffusers of August 2026, from the text of a scheduler_config.json alone: what pipelines carry, class defaults, and the fields that turn steps into others.
    [Theory]
    [MemberData(nameof(Configurations))]
    public void Schedulers_FileAsDiffusersHasIt_FollowItStepByStep(string name)
    {
        var run = Runs().Single(r => r.GetProperty("name").GetString() == name);
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["scheduler_config.json"], run.GetProperty("config").GetString());
        var config = SchedulerConfig.Read(folder["scheduler_config.json"]);
        var grid = config.Grid(run.GetProperty("steps").GetInt32());
        var trajectory = run.GetProperty("trajectory").EnumerateArray().Select(x => x.EnumerateArray().Select(v => v.GetDouble()).ToArray()).ToArray();
        // Heun's and KDPM2's show their trial steps too, PNDM's its first step twice.
        var trials = config.ClassName is "HeunDiscreteScheduler" or "KDPM2DiscreteScheduler";
        bool IsStep(int n, int count) => trials ? n % 2 == 1 || n == count - 1 : config.ClassName != "PNDMScheduler" || n != 0;
        double[] times = [.. run.GetProperty("times").EnumerateArray().Select(t => t.GetDouble())];
        times = [.. times.Where((_, n) => trials ? n == 0 || n % 2 == (config.ClassName == "HeunDiscreteScheduler" ? 1 : 0) : config.ClassName != "PNDMScheduler" || n != 2)];
        Assert.Equal(times, grid.Points.Take(grid.Steps).Select(p => p.Time), (a, b) => Math.Abs(a - b) < 2e-3);
        var interpolated = TimeGrid.FamilyOf(config.ClassName) == SchedulerFamily.Interpolated;
        for (var k = 0; k < trajectory[0].Length; k++)
        {
            var steps = new List<double>();
            ScalarWalk.Run(config.Sampler(), grid, trajectory[0][k] * (interpolated ? grid.Start.Level.Alpha : 1), Network(config.Prediction), visit: (n, x) => steps.Add(interpolated ? x / grid.Points[n + 1].Level.Alpha : x));
            var expected = trajectory.Skip(1).Select(x => x[k]).Where((_, n) => IsStep(n, trajectory.Length - 1)).ToArray();
            Assert.Equal(expected.Length, steps.Count);
            for (var n = 0; n < steps.Count; n++)
                Assert.True(Math.Abs(steps[n] - expected[n]) <= 5e-5 * Math.Max(1, Math.Abs(expected[n])), $"element {k}, step {n}: {steps[n]:r}, diffusers {expected[n]:r}");
        }
    }

    // mean |x| that diffusers' own tests expect after ten steps of its test network x t / (t + 1) from arange(768) / 768.
    [Theory]
    [InlineData("DPMSolverMultistepScheduler", "epsilon", false, 0.3301)]
    [InlineData("DPMSolverMultistepScheduler", "v_prediction", false, 0.2251)]
    [InlineData("DPMSolverMultistepScheduler", "v_prediction", true, 0.2096)]
    [InlineData("DPMSolverSinglestepScheduler", "epsilon", false, 0.2791)]
    [InlineData("DEISMultistepScheduler", "epsilon", false, 0.23916)]
    [InlineData("DEISMultistepScheduler", "v_prediction", false, 0.091)]
    [InlineData("UniPCMultistepScheduler", "epsilon", false, 0.2464)]
    [InlineData("UniPCMultistepScheduler", "v_prediction", false, 0.1014)]
    public void Schedulers_TestNetworkOfDiffusers_EndAtItsMean(string className, string prediction, bool karras, double mean)
    {
        var config = new SchedulerConfig
        {
            ClassName = className,
            PredictionType = prediction,
            UseKarrasSigmas = karras,
            FinalSigmasType = "sigma_min",
            LowerOrderFinal = className is "DEISMultistepScheduler" or "UniPCMultistepScheduler",
        };
        var network = (ScalarWalk.Network)((x, at, wanted) =>
        {
            var (ofX, ofGiven) = config.Prediction.To(wanted, at.Level);
            return (ofX * x) + (ofGiven * x * at.Time / (at.Time + 1));
        });
        // All is linear in x: one number stands for all 768.
        Assert.Equal(mean, Math.Abs(ScalarWalk.Run(config.Sampler(), config.Grid(10), 1, network)) * 383.5 / 768, 1e-3);
    }

    private static List<JsonElement> Runs()
    {
        using var file = JsonDocument.Parse(File.ReadAllText(Path.Combine(ReferenceFolder.Of("schedulers"), "trajectories.json")));
        return [.. file.RootElement.EnumerateArray().Select(r => r.Clone())];
    }

    private static SchedulerConfig Config(string name) => name switch
    {
        "DDIM" => new() { ClassName = "DDIMScheduler", SetAlphaToOne = false, StepsOffset = 1 },
        "DDIM_v" => new() { ClassName = "DDIMScheduler", SetAlphaToOne = false, StepsOffset = 1, PredictionType = "v_prediction" },
        "PNDM_plms" => new() { ClassName = "PNDMScheduler", SkipPrkSteps = true, SetAlphaToOne = false, StepsOffset = 1 },
        "DPMSolver++_2M" => new() { ClassName = "DPMSolverMultistepScheduler", FinalSigmasType = "sigma_min" },
        "DPMSolver_2M" => new() { ClassName = "DPMSolverMultistepScheduler", FinalSigmasType = "sigma_min", AlgorithmType = "dpmsolver" },
        "DPMSolver++_3M" => new() { ClassName = "DPMSolverMultistepScheduler", FinalSigmasType = "sigma_min", SolverOrder = 3 },
        "DPMSolver++_2S" => new() { ClassName = "DPMSolverSinglestepScheduler", LowerOrderFinal = false, FinalSigmasType = "sigma_min" },
        "DEIS_2" => new() { ClassName = "DEISMultistepScheduler", FinalSigmasType = "sigma_min" },
        "Euler" => new() { ClassName = "EulerDiscreteScheduler" },
        "Heun" => new() { ClassName = "HeunDiscreteScheduler" },
        _ => throw new ArgumentException(name),
    };

    internal static ScalarWalk.Network Network(Prediction prediction) => (x, at, wanted) =>
    {
        var (ofX, ofGiven) = prediction.To(wanted, at.Level);
        return (ofX * x) + (ofGiven * ((0.9 * Math.Tanh(x) * (0.2 + (0.8 * at.Time / 1000))) + (0.05 * Math.Sin(3 * x))));
    };
}
