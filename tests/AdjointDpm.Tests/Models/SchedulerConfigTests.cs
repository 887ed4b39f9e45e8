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

    private static SchedulerConfig Read(string json)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["scheduler_config.json"], json);
        return SchedulerConfig.Read(folder["scheduler_config.json"]);
    }
}
