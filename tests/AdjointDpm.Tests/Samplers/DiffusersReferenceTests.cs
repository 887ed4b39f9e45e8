using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Whole trajectories against diffusers 0.21.4: twelve steps of a small UNet with guidance, in float32.</summary>
public sealed class DiffusersReferenceTests
{
    private const double Tolerance = 1e-4;

    // The files of diffusers 0.21 carry no class name when written by hand, and DPM-Solver then ended at sigma_min.
    [Theory]
    [InlineData("ddim", "DDIMScheduler", null)]
    [InlineData("dpmpp_2m", "DPMSolverMultistepScheduler", "sigma_min")]
    [InlineData("euler", "EulerDiscreteScheduler", null)]
    [InlineData("heun", "HeunDiscreteScheduler", null)]
    public void Scheduler_ItsOwnConfiguration_EndsWhereDiffusersDoes(string name, string className, string? end)
        => Compare(name, config => config with { ClassName = className, FinalSigmasType = end });

    private static void Compare(string name, Func<SchedulerConfig, SchedulerConfig> complete)
    {
        using var scope = NewDisposeScope();
        var folder = ReferenceFolder.Of("schedulers");
        var config = complete(SchedulerConfig.Read(Path.Combine(folder, name + ".scheduler_config.json")));
        using var io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
        using var unet = Reference.Unet();
        Tensor conditioning = io.Read("encoder_hidden_states"), negative = io.Read("negative_hidden_states"), noise = io.Read("initial_noise");
        var along = config.Grid(12);
        if (TimeGrid.FamilyOf(config.ClassName) == SchedulerFamily.Interpolated)
        {
            // diffusers' Euler starts at x / alpha = rho noise, not sqrt(1 + rho²) noise.
            using var start = along.Start.Level.Sigma.ToScalar();
            noise = noise.mul(start);
        }

        var request = new SampleRequest
        {
            Field = NoiseField.GuidedBatched((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float32), cat([negative, conditioning], 0)), 7.5) with { Prediction = config.Prediction },
            Noise = noise,
            Grid = along,
            Sampler = config.Sampler(),
        };
        using var result = Sampling.Sample(request, TestContext.Current.CancellationToken);
        var times = io.Read($"{name}.timesteps").data<double>().ToArray();
        Assert.Equal(times[0], along.Start.Time);
        var error = TestScalars.RelativeError(result.Sample, io.Read($"{name}.sample"));
        Assert.True(error < Tolerance, $"{name}: relative error {error:e2}");
    }
}
