using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
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

    [Fact]
    public void Ddim_ItsOwnConfiguration_EndsWhereDiffusersDoes()
        => Compare("ddim", Sampler.Ddim, config => config.Grid(12));

    [Fact]
    public void DpmSolver2M_LowerOrderAtTheEnd_EndsWhereDiffusersDoes()
        => Compare("dpmpp_2m", new LowerOrderFinal(Sampler.DpmSolver2M), config =>
        {
            var schedule = config.Schedule();
            return new(schedule, [.. Enumerable.Range(0, 13).Select(n => Math.Round(999.0 * (12 - n) / 12)).Select(t => new GridPoint(t, schedule.At(t)))]);
        });

    [Theory]
    [InlineData("euler")]
    [InlineData("heun")]
    public void EulerAndHeun_FractionalTimes_EndWhereDiffusersDoes(string name)
        => Compare(name, Sampler.Named(name), config => new(config.Schedule(), [.. Enumerable.Range(0, 12).Select(n => Interpolated(config.Schedule(), (float)(999.0 * (11 - n) / 11))), new GridPoint(0, new(1, 0))]), startsAtRho: true);

    // diffusers interpolates sigma / alpha itself between trained steps.
    private static GridPoint Interpolated(DiscreteVp schedule, double time)
    {
        double below = schedule.At(Math.Floor(time)).Rho, above = schedule.At(Math.Ceiling(time)).Rho;
        return new(time, NoiseLevel.VariancePreserving(below + ((time - Math.Floor(time)) * (above - below))));
    }

    private static void Compare(string name, Sampler sampler, Func<SchedulerConfig, TimeGrid> grid, bool startsAtRho = false)
    {
        using var scope = NewDisposeScope();
        var folder = ReferenceFolder.Of("schedulers");
        var config = SchedulerConfig.Read(Path.Combine(folder, name + ".scheduler_config.json"));
        using var io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
        var weights = ReferenceFolder.Of("unet_condition");
        using var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(weights, "config.json")));
        ModuleWeights.Load(unet, Path.Combine(weights, "diffusion_pytorch_model.safetensors"));
        unet.eval();
        Tensor conditioning = io.Read("encoder_hidden_states"), negative = io.Read("negative_hidden_states"), noise = io.Read("initial_noise");
        var along = grid(config);
        if (startsAtRho)
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
            Sampler = sampler,
        };
        using var result = Sampling.Sample(request, TestContext.Current.CancellationToken);
        var times = io.Read($"{name}.timesteps").data<double>().ToArray();
        Assert.Equal(times[0], along.Start.Time);
        var error = TestScalars.RelativeError(result.Sample, io.Read($"{name}.sample"));
        Assert.True(error < Tolerance, $"{name}: relative error {error:e2}");
    }

    /// <summary>diffusers' lower_order_final: the last step is first order. A sampler made outside the library.</summary>
    private sealed class LowerOrderFinal(Sampler inner) : Sampler
    {
        public override string Name => inner.Name + ", first order at the end";

        public override int Order => inner.Order;

        public override StepPlan Plan(TimeGrid grid, int step) => (step == grid.Steps - 1 ? Ddim : inner).Plan(grid, step);
    }
}
