using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Schedules;

public sealed class ScheduleTests
{
    public static TheoryData<NoiseSchedule> Schedules() =>
    [
        DiscreteVp.StableDiffusion,
        DiscreteVp.Create(BetaSchedule.Linear, 1e-4, 0.02),
        DiscreteVp.Create(BetaSchedule.SquaredCosine, 0, 0),
        new LinearVp(),
        new VarianceExploding(),
    ];

    [Theory]
    [MemberData(nameof(Schedules))]
    public void TimeAt_LevelOfATime_GivesTheTimeBack(NoiseSchedule schedule)
    {
        for (var i = 0; i <= 100; i++)
        {
            var time = schedule.CleanTime + ((schedule.NoisyTime - schedule.CleanTime) * i / 100 * 0.99999);
            var point = schedule.PointAt(schedule.At(time).Rho);
            Assert.Equal(time, point.Time, 1e-9 * schedule.NoisyTime);
            Assert.Equal(schedule.At(time).Alpha, point.Level.Alpha, 1e-12);
        }
    }

    [Fact]
    public void DiscreteVp_StableDiffusion_HasTheKnownLevels()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Equal(0.029167, schedule.RhoMin, 1e-6);
        Assert.Equal(14.6146, schedule.RhoMax, 1e-4);
        // Between trained steps log alpha is linear in time.
        Assert.Equal((Math.Log(schedule.At(10).Alpha) + Math.Log(schedule.At(11).Alpha)) / 2, Math.Log(schedule.At(10.5).Alpha), 1e-15);
    }

    [Theory]
    [MemberData(nameof(Schedules))]
    public void At_VariancePreserving_KeepsUnitVariance(NoiseSchedule schedule)
    {
        var (alpha, sigma) = schedule.At((schedule.CleanTime + schedule.NoisyTime) / 2);
        if (schedule is not VarianceExploding)
            Assert.Equal(1, (alpha * alpha) + (sigma * sigma), 1e-14);
    }

    [Fact]
    public void Schedule_OutsideItsRange_SaysWhatItSpans()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Contains("[0, 999]", Assert.Throws<ArgumentOutOfRangeException>(() => schedule.At(1000)).Message, StringComparison.Ordinal);
        Assert.Contains("spans [0.029", Assert.Throws<ArgumentOutOfRangeException>(() => schedule.TimeAt(0.01)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => schedule.At(double.NaN));
        Assert.Equal(0, schedule.TimeAt(0));
        Assert.Contains("betas[1] = 1", Assert.Throws<ArgumentException>(() => new DiscreteVp(0.1, 1.0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TimeGrid_NotMonotone_NamesThePoint()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Contains("rho[2] = 5 follows 5", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, 5.0, 5.0)).Message, StringComparison.Ordinal);
        Assert.Contains("rho[2] = 6", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, 5.0, 6.0)).Message, StringComparison.Ordinal);
        Assert.Contains("rho[1] = NaN", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, double.NaN)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0));
    }

    [Theory]
    [InlineData(GridKind.LogSnr)]
    [InlineData(GridKind.Time)]
    [InlineData(GridKind.Karras)]
    public void TimeGrid_WholeSchedule_SpansItAndReverses(GridKind kind)
    {
        var schedule = DiscreteVp.StableDiffusion;
        var grid = TimeGrid.Create(kind, schedule, 12);
        Assert.Equal(12, grid.Steps);
        Assert.Equal((999, schedule.RhoMax), (grid.Start.Time, grid.Start.Rho));
        Assert.Equal((0, schedule.RhoMin), (grid.End.Time, grid.End.Rho));
        Assert.Equal(grid.Points.Reverse(), grid.Reversed().Points);
    }

    [Fact]
    public void LogSnr_Steps_AreUniformInLambda()
    {
        var points = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 9).Points;
        var steps = points.Zip(points.Skip(1), (a, b) => b.Level.Lambda - a.Level.Lambda).ToArray();
        Assert.All(steps, s => Assert.Equal(steps[0], s, 1e-12));
    }

    // What diffusers 0.21 schedulers return from set_timesteps.
    [Theory]
    [InlineData(GridKind.Leading, 5, 1, "801 601 401 201 1")]
    [InlineData(GridKind.Leading, 3, 0, "666 333 0")]
    [InlineData(GridKind.Trailing, 5, 0, "999 799 599 399 199")]
    [InlineData(GridKind.Linspace, 5, 0, "999 749 500 250 0")]
    public void Diffusers_Spacing_GivesItsTimesteps(GridKind kind, int steps, int offset, string expected)
    {
        var grid = TimeGrid.Diffusers(DiscreteVp.StableDiffusion, kind, steps, offset);
        Assert.Equal(expected, string.Join(' ', grid.Points.SkipLast(1).Select(p => p.Time)));
        Assert.Equal(0, grid.End.Rho);
        Assert.Equal(1, grid.End.Level.Alpha);
    }

    [Fact]
    public void Diffusers_EndingWhereTheLastStepIs_LeavesOutTheIdentity()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Equal([751, 501, 251, 1, 0], TimeGrid.Diffusers(schedule, GridKind.Leading, 4, offset: 1, endWithoutNoise: false).Points.Select(p => p.Time));
        var grid = TimeGrid.Diffusers(schedule, GridKind.Leading, 4, endWithoutNoise: false);
        Assert.Equal([750, 500, 250, 0], grid.Points.Select(p => p.Time));
        Assert.Equal(schedule.RhoMin, grid.End.Rho);
    }
}
