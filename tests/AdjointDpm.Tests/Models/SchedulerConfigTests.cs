using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Formats;

namespace AdjointDpm.Tests.Models;

public sealed class SchedulerConfigTests
{
    [Fact]
    public void Read_StableDiffusion_GivesItsScheduleAndSteps()
    {
        var config = Read("""{"_class_name":"PNDMScheduler","beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear","set_alpha_to_one":false,"skip_prk_steps":true,"steps_offset":1,"trained_betas":null,"clip_sample":false}""");
        Assert.Equal(Prediction.Epsilon, config.Prediction);
        Assert.Equal(Math.Sqrt(1 - 0.00085), config.Schedule().At(0).Alpha, 1e-12);
        var grid = config.Grid(20);
        Assert.Equal(951, grid.Start.Time);
        Assert.Equal(config.Schedule().At(0).Rho, grid.End.Rho);
    }

    [Theory]
    [InlineData("DDIMScheduler", 950)]
    [InlineData("DPMSolverMultistepScheduler", 999)]
    public void Grid_SpacingNotSaid_IsTheClasss(string name, double first) =>
        Assert.Equal(first, Read($$"""{"_class_name":"{{name}}"}""").Grid(20).Start.Time);

    [Fact]
    public void Read_TrainedBetas_Win()
    {
        var config = Read("""{"trained_betas":[0.1,0.2],"prediction_type":"v_prediction"}""");
        Assert.Equal(0.9 * 0.8, Math.Pow(config.Schedule().At(1).Alpha, 2), 1e-12);
        Assert.Equal(Prediction.Velocity, config.Prediction);
    }

    [Theory]
    [InlineData("""{"beta_schedule":"sigmoid"}""", "sigmoid")]
    [InlineData("""{"prediction_type":"score"}""", "score")]
    [InlineData("""{"timestep_spacing":"random"}""", "random")]
    [InlineData("""{"thresholding":true}""", "thresholding")]
    [InlineData("""{"_class_name":"DPMSolverMultistepScheduler","use_lu_lambdas":true}""", "use_lu_lambdas")]
    [InlineData("""{"_class_name":"EulerDiscreteScheduler","use_exponential_sigmas":true}""", "use_exponential_sigmas")]
    [InlineData("""{"_class_name":"EulerDiscreteScheduler","use_beta_sigmas":true}""", "use_beta_sigmas")]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","invert_sigmas":true}""", "invert_sigmas")]
    [InlineData("""{"_class_name":"FlowMatchEulerDiscreteScheduler","stochastic_sampling":true}""", "stochastic_sampling")]
    [InlineData("""{"_class_name":"FlowMatchLCMScheduler"}""", "FlowMatchLCMScheduler")]
    public void Read_Unsupported_NamesTheValue(string json, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelConfigException>(() => Read(json)).Message, StringComparison.Ordinal);

    public static TheoryData<string> Stock() => [.. JsonDocument.Parse(File.ReadAllText(Path.Combine(ReferenceFolder.Of("schedulers"), "trajectories.json"))).RootElement.EnumerateArray().Select(r => r.GetProperty("config").GetString()!)];

    // The first four are what the pipelines of Stable Diffusion 1.5, 2 and XL and of DPM-Solver carry.
    [Theory]
    [MemberData(nameof(Stock))]
    public void Write_AsRead_HasEveryFieldAndNoOther(string json)
    {
        using var folder = new TemporaryFolder();
        var config = Read(json);
        config.Write(folder["s.json"]);
        // Infinities stand as Python has them.
        Assert.Equal(json, string.Join(" ", File.ReadAllLines(folder["s.json"]).Select(l => l.Trim())).Replace("{ ", "{", StringComparison.Ordinal).Replace(" }", "}", StringComparison.Ordinal).Replace("[ ", "[", StringComparison.Ordinal).Replace(" ]", "]", StringComparison.Ordinal), (a, b) => Numbers(a) == Numbers(b));

        // 10.0 is 10 in .NET.
        static string Numbers(string text) => text.Replace(".0,", ",", StringComparison.Ordinal).Replace(".0}", "}", StringComparison.Ordinal).Replace("1e-4", "0.0001", StringComparison.Ordinal);
    }

    [Fact]
    public void Write_Changed_SaysTheChangeAndNoNull()
    {
        using var folder = new TemporaryFolder();
        (Read("""{"_class_name":"PNDMScheduler","skip_prk_steps":true,"_diffusers_version":"0.6.0","trained_betas":null}""") with { PredictionType = "v_prediction", SetAlphaToOne = true, TimestepSpacing = null }).Write(folder["s.json"]);
        Assert.Equal("""{"_class_name":"PNDMScheduler","_diffusers_version":"0.6.0","prediction_type":"v_prediction","set_alpha_to_one":true,"skip_prk_steps":true,"trained_betas":null}""",
            JsonNode.Parse(File.ReadAllText(folder["s.json"]))!.ToJsonString());
        new SchedulerConfig { SetAlphaToOne = false }.Write(folder["s.json"]);
        Assert.DoesNotContain("null", File.ReadAllText(folder["s.json"]), StringComparison.Ordinal);
        Assert.Contains("num_train_timesteps", File.ReadAllText(folder["s.json"]), StringComparison.Ordinal);
    }

    // Files that this program wrote before it knew better.
    [Fact]
    public void Read_NullWhereTheClassHasADefault_IsTheDefaultAndIsNotWrittenAgain()
    {
        using var folder = new TemporaryFolder();
        var config = Read("""{"_class_name":"DDIMScheduler","timestep_spacing":null,"set_alpha_to_one":null,"final_sigmas_type":null,"algorithm_type":null}""");
        Assert.Equal(0, config.Grid(10).End.Rho);
        config.Write(folder["s.json"]);
        Assert.Equal("""{"_class_name":"DDIMScheduler"}""", JsonNode.Parse(File.ReadAllText(folder["s.json"]))!.ToJsonString());
    }

    [Fact]
    public void Read_ClassWithItsOwnDefaults_HasThem()
    {
        Assert.Equal((0.00085, 0.012), Read("""{"_class_name":"HeunDiscreteScheduler"}""") is var heun ? (heun.BetaStart, heun.BetaEnd) : default);
        Assert.False(Read("""{"_class_name":"DPMSolverSinglestepScheduler"}""").LowerOrderFinal);
    }

    [Theory]
    [InlineData("""{"_class_name":"PNDMScheduler"}""", "skip_prk_steps")]
    [InlineData("""{"_class_name":"DDPMScheduler","variance_type":"fixed_large"}""", "variance_type")]
    [InlineData("""{"_class_name":"DDPMScheduler","variance_type":"learned_range"}""", "variance_type")]
    [InlineData("""{"_class_name":"DPMSolverMultistepScheduler","variance_type":"learned_range"}""", "variance_type")]
    [InlineData("""{"_class_name":"UniPCMultistepScheduler","solver_p":{"_class_name":"DDIMScheduler"}}""", "solver_p")]
    [InlineData("""{"_class_name":"DPMSolverSinglestepScheduler","lower_order_final":true,"final_sigmas_type":"sigma_min"}""", "lower_order_final")]
    [InlineData("""{"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"sde-dpmsolver++","euler_at_final":true,"final_sigmas_type":"sigma_min"}""", "euler_at_final")]
    public void Sampler_FieldThatAsksForOtherSteps_IsNamedAndTheScheduleStays(string json, string field)
    {
        var config = Read(json);
        var error = Assert.Throws<ModelConfigException>(config.Sampler);
        Assert.StartsWith(field, error.Message, StringComparison.Ordinal);
        Assert.Contains("ddim", error.Message, StringComparison.Ordinal);
        Assert.Equal(999, config.Schedule().NoisyTime);
    }

    [Theory]
    [InlineData("interpolation_type")]
    [InlineData("final_sigmas_type")]
    public void Grid_ValueThatIsNotKnown_IsNamed(string field) =>
        Assert.Contains($"{field} 'odd'", Assert.Throws<ModelConfigException>(() => Read($$"""{"_class_name":"EulerDiscreteScheduler","{{field}}":"odd"}""").Grid(4)).Message, StringComparison.Ordinal);

    private static SchedulerConfig Read(string json)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["scheduler_config.json"], json);
        return SchedulerConfig.Read(folder["scheduler_config.json"]);
    }
}
