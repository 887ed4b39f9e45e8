using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Scheduler files of flow matching and of networks trained down to no signal, against diffusers' own classes (0.40, run on the closed-form network below).</summary>
public sealed class FlowSchedulerTests
{
    private static readonly double[] Starts = [-1.7, -0.4, 0.3, 1.1];

    private const string ZeroSnr = "\"beta_start\":0.00085,\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\",\"rescale_betas_zero_snr\":true,\"timestep_spacing\":\"trailing\",\"prediction_type\":\"v_prediction\"";
    private const string OnFlow = "\"use_flow_sigmas\":true,\"prediction_type\":\"flow_prediction\",\"flow_shift\":3.0";

    // 2176 and 256 tokens give diffusers' mu of 0.8 and 1.6.
    [Theory]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler"}""", 7, null, new[] { 1000, 833.5, 667.0 }, 1.0, new[] { -1.201359, -0.186562, 0.137352, 0.64694 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":3.0}""", 8, null, new[] { 1000, 947.543, 882.788 }, 8.9286, new[] { -1.193212, -0.18452, 0.135926, 0.640272 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true,"base_shift":0.3,"max_shift":1.3,"base_image_seq_len":256,"max_image_seq_len":4096}""", 8, 2176, new[] { 1000, 930.405, 847.831 }, 2.2228, new[] { -1.201165, -0.187465, 0.138151, 0.646801 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true,"time_shift_type":"linear","base_shift":1.6}""", 8, 256, new[] { 1000, 905.76, 800.224 }, 1.599, new[] { -1.207103, -0.189408, 0.1396, 0.651558 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":2.0,"shift_terminal":0.1}""", 8, null, new[] { 1000, 930.642, 849.75 }, 100.0, new[] { -1.209939, -0.190384, 0.140354, 0.653653 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":2.0,"use_karras_sigmas":true}""", 8, null, new[] { 1000, 566.517, 305.216 }, 3.988, new[] { -1.154454, -0.162586, 0.11834, 0.608995 })]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","use_exponential_sigmas":true}""", 8, null, new[] { 1000, 372.759, 138.95 }, 1.0, new[] { -1.091794, -0.127408, 0.090334, 0.556955 })]
    [InlineData("""{"_class_name":"FlowMatchHeunDiscreteScheduler","shift":3.0}""", 8, null, new[] { 1000, 947.543, 882.788 }, 8.9286, new[] { -1.256483, -0.207479, 0.153389, 0.690543 })]
    [InlineData("{\"_class_name\":\"DPMSolverMultistepScheduler\"," + OnFlow + "}", 8, null, new[] { 999, 954, 899.0 }, 299.0, new[] { -1.22927, -0.199287, 0.147261, 0.669739 })]
    [InlineData("{\"_class_name\":\"UniPCMultistepScheduler\"," + OnFlow + "}", 8, null, new[] { 999, 954, 900.0 }, 301.0, new[] { -1.232268, -0.200211, 0.147955, 0.672054 })]
    [InlineData("{\"_class_name\":\"DDIMScheduler\",\"set_alpha_to_one\":false," + ZeroSnr + "}", 8, null, new[] { 999, 874, 749.0 }, 124.0, new[] { -0.865234, -0.117542, 0.086415, 0.425978 })]
    [InlineData("{\"_class_name\":\"EulerDiscreteScheduler\"," + ZeroSnr + "}", 8, null, new[] { 999, 874, 749.0 }, 124.0, new[] { -0.848844, -0.114306, 0.084023, 0.415574 })]
    [InlineData("{\"_class_name\":\"DPMSolverMultistepScheduler\"," + ZeroSnr + "}", 8, null, new[] { 999, 874, 749.0 }, 124.0, new[] { -1.006072, -0.143142, 0.10554, 0.504255 })]
    [InlineData("{\"_class_name\":\"UniPCMultistepScheduler\"," + ZeroSnr + "}", 8, null, new[] { 999, 874, 749.0 }, 124.0, new[] { -1.044845, -0.148446, 0.109428, 0.524834 })]
    public void File_ItsGridAndSampler_AreDiffusers(string json, int steps, int? tokens, double[] firstTimes, double lastTime, double[] ends)
    {
        var config = Read(json);
        var grid = config.Grid(steps, tokens);
        Assert.Equal(steps, grid.Steps);
        Assert.All(firstTimes.Zip(grid.Points), t => Assert.Equal(t.First, t.Second.Time, 6e-4));
        Assert.Equal(lastTime, grid.Points[^2].Time, 6e-4);
        // diffusers computes in float32.
        var scale = config.NoiseScale(grid);
        foreach (var (x, end) in Starts.Zip(ends))
            Assert.Equal(end, ScalarWalk.Run(config.Sampler(), grid, scale * x, DiffusersTrajectoryTests.Network(config.Prediction)), 5e-5);
    }

    // x + (sigma' - sigma) v, and Heun's correction for all steps but the last, where there is no noise to evaluate at.
    [Theory]
    [InlineData("FlowMatchEulerDiscreteScheduler", 5)]
    [InlineData("FlowMatchHeunDiscreteScheduler", 9)]
    public void FlowMatch_EveryStep_IsDiffusersFormula(string className, int evaluations)
    {
        var config = Read($$"""{"_class_name":"{{className}}","shift":3.0}""");
        var grid = config.Grid(5);
        static double Velocity(double x, double time) => Math.Tanh(x) + (0.3 * Math.Sin(time / 200));
        var counted = 0;
        var actual = ScalarWalk.Run(config.Sampler(), grid, 0.8, (x, at, wanted) =>
        {
            counted++;
            Assert.True(at.Level.Sigma > 0);
            var (ofX, ofFlow) = Prediction.Flow.To(wanted, at.Level);
            return (ofX * x) + (ofFlow * Velocity(x, at.Time));
        });
        var expected = 0.8;
        for (var n = 0; n < grid.Steps; n++)
        {
            double from = grid.Points[n].Time, to = grid.Points[n + 1].Time, h = (to - from) / 1000, first = Velocity(expected, from), euler = expected + (h * first);
            expected = evaluations > 5 && to > 0 ? expected + (h * (first + Velocity(euler, to)) / 2) : euler;
        }

        Assert.Equal(expected, actual, 1e-13);
        Assert.Equal(evaluations, counted);
    }

    [Fact]
    public void WithoutTerminalSignal_IsAlgorithm1()
    {
        var before = DiscreteVp.StableDiffusion;
        var after = before.WithoutTerminalSignal();
        double first = before.At(0).Alpha, last = before.At(999).Alpha;
        Assert.Equal(new NoiseLevel(0, 1), after.At(999));
        Assert.Equal(new GridPoint(999, new(0, 1)), after.PointAt(double.PositiveInfinity));
        foreach (var n in (int[])[0, 1, 10, 500, 998])
        {
            Assert.Equal((before.At(n).Alpha - last) * first / (first - last), after.At(n).Alpha, 1e-14);
            Assert.Equal(n, after.TimeAt(after.At(n).Rho), 1e-9);
        }

        // Down to no signal, and back.
        foreach (var t in (double[])[998.25, 998.9999, 999])
            Assert.Equal(t, after.TimeAt(after.At(t).Rho), 1e-9);
        Assert.Equal(Math.Pow(2, -12), before.WithoutTerminalSignal(Math.Pow(2, -24)).At(999).Alpha, 1e-18);
        Assert.Contains("Velocity", Assert.Throws<InvalidOperationException>(() => ScalarWalk.Run(Sampler.Ddim, TimeGrid.Diffusers(after, GridKind.Trailing, 5), 1, DiffusersTrajectoryTests.Network(Prediction.Epsilon))).Message, StringComparison.Ordinal);
    }

    // The first step leaves pure noise: gradients are exact all the same.
    [Theory]
    [InlineData("{\"_class_name\":\"DDIMScheduler\"," + ZeroSnr + "}")]
    [InlineData("""{"_class_name":"FlowMatchHeunDiscreteScheduler","shift":3.0}""")]
    public void File_PureNoiseAtTheStart_GradientIsExact(string json)
    {
        using var scope = NewDisposeScope();
        var config = Read(json);
        var w = tensor(0.7, ScalarType.Float64);
        var request = new SampleRequest
        {
            Field = (NoiseField.From((x, _) => x.mul(w).sin()) with { Prediction = config.Prediction }).With("w", w),
            Noise = tensor(Starts, ScalarType.Float64),
            Grid = config.Grid(6),
            Sampler = config.Sampler(),
        };
        Assert.Equal(double.PositiveInfinity, request.Grid.Start.Rho);
        Assert.All(GradientCheck.Run(request, x => x.Squared().sum(), GradientMethod.Discrete, cancellationToken: TestContext.Current.CancellationToken), a => Assert.InRange(a.RelativeError, 0, 1e-13));
    }

    [Fact]
    public void File_DynamicShiftWithoutASize_SaysWhatIsMissing()
    {
        var config = Read("""{"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true}""");
        Assert.Contains("how many tokens", Assert.Throws<ModelConfigException>(() => config.Grid(8)).Message, StringComparison.Ordinal);
        Assert.Contains("cubic", Assert.Throws<ModelConfigException>(() => (config with { TimeShiftType = "cubic" }).Grid(8, 256)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void File_WrittenAndRead_KeepsItsFieldsAndAddsNone()
    {
        using var folder = new TemporaryFolder();
        var config = Read("""{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":3.0,"use_dynamic_shifting":true}""");
        config.Write(folder["s.json"]);
        Assert.Equal(config, SchedulerConfig.Read(folder["s.json"]));
        new SchedulerConfig().Write(folder["s.json"]);
        Assert.DoesNotContain("shift", File.ReadAllText(folder["s.json"]), StringComparison.Ordinal);
    }

    private static SchedulerConfig Read(string json)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["scheduler_config.json"], json);
        return SchedulerConfig.Read(folder["scheduler_config.json"]);
    }
}
